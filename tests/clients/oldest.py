"""Runs where only the oldest promised runtime and the generated Python are: calls a service and says what it answered.

Started by test_oldest.py with the address of a service and a user without tasks.
"""

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec

import grpc
from google.protobuf.json_format import MessageToDict
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

address, user = sys.argv[1:]
metadata = (("x-user-id", user),)

with grpc.insecure_channel(address) as channel:
    stub = tasks_pb2_grpc.TaskServiceStub(channel)
    created = stub.CreateTask(tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title="Buy milk")), metadata=metadata)
    read = stub.GetTask(tasks_pb2.GetTaskRequest(id=created.id), metadata=metadata)
    page = stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=metadata)

json.dump(
    {
        "versions": {name: version(name) for name in ("grpcio", "protobuf", "googleapis-common-protos")},
        "service": find_spec("service") is not None,
        "created": MessageToDict(created),
        "read": MessageToDict(read),
        "listed": [MessageToDict(task) for task in page.tasks],
    },
    sys.stdout,
)
