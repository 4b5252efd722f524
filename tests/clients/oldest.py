"""Runs in the environment of the oldest supported runtime: calls a service and prints the responses.

Started by test_oldest.py with the address of a service and a user without tasks.
"""

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

address, user = sys.argv[1:]
metadata = (("x-user-id", user),)

with grpc.insecure_channel(address) as channel:
    stub = tasks_pb2_grpc.TaskServiceStub(channel)
    task = tasks_pb2.Task(title="Buy milk", description="Two litres")
    request = tasks_pb2.CreateTaskRequest(task=task, request_id="4b0f4d5e-3f1c-4f0e-9a55-0d9f3a8f7c11")
    created = stub.CreateTask(request, metadata=metadata)
    again = stub.CreateTask(request, metadata=metadata)
    read = stub.GetTask(tasks_pb2.GetTaskRequest(id=created.id), metadata=metadata)
    page = stub.ListTasks(
        tasks_pb2.ListTasksRequest(page_size=10, status=tasks_pb2.TASK_STATUS_INCOMPLETE, order_by="create_time"),
        metadata=metadata,
    )
    changed = stub.UpdateTask(
        tasks_pb2.UpdateTaskRequest(
            task=tasks_pb2.Task(id=created.id, title="Buy oat milk", etag=created.etag),
            update_mask=FieldMask(paths=["title"]),
        ),
        metadata=metadata,
    )
    completed = stub.CompleteTask(tasks_pb2.CompleteTaskRequest(id=created.id, etag=changed.etag), metadata=metadata)
    delete = tasks_pb2.DeleteTaskRequest(id=created.id)
    stub.DeleteTask(delete, metadata=metadata)
    try:
        stub.DeleteTask(delete, metadata=metadata)
    except grpc.RpcError as error:
        info = ErrorInfo()
        trailers = {entry.key: entry.value for entry in error.trailing_metadata()}
        Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
        refused = [error.code().name, info.reason]
    stub.DeleteTask(tasks_pb2.DeleteTaskRequest(id=created.id, allow_missing=True), metadata=metadata)

json.dump(
    {
        "versions": {name: version(name) for name in ("grpcio", "protobuf", "googleapis-common-protos")},
        "service": find_spec("service") is not None,
        "stubs": tasks_pb2_grpc.__file__,
        "created": MessageToDict(created),
        "again": MessageToDict(again),
        "read": MessageToDict(read),
        "listed": [MessageToDict(task) for task in page.tasks],
        "changed": MessageToDict(changed),
        "completed": MessageToDict(completed),
        "refused": refused,
    },
    sys.stdout,
)
