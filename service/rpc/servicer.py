"""TaskService over gRPC. Each method parses the request, calls Tasks and renders the result.

Errors pass through to the interceptor, which maps them to statuses.
"""

from google.protobuf.empty_pb2 import Empty
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.rpc.convert import to_draft, to_message, to_page
from service.rpc.handlers import Context
from service.rpc.interceptor import current_caller
from service.tasks.methods import Tasks


class TaskServicer(tasks_pb2_grpc.TaskServiceServicer):
    """The methods of the contract."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def CreateTask(self, request: tasks_pb2.CreateTaskRequest, context: Context) -> tasks_pb2.Task:
        task = await self._tasks.create(current_caller(), to_draft(request.task), request.request_id)
        return to_message(task)

    async def ListTasks(self, request: tasks_pb2.ListTasksRequest, context: Context) -> tasks_pb2.ListTasksResponse:
        page = await self._tasks.list(
            current_caller(),
            page_size=request.page_size,
            page_token=request.page_token,
            status=request.status,
            order_by=request.order_by,
        )
        return to_page(page)

    async def GetTask(self, request: tasks_pb2.GetTaskRequest, context: Context) -> tasks_pb2.Task:
        return to_message(await self._tasks.get(current_caller(), request.id))

    async def UpdateTask(self, request: tasks_pb2.UpdateTaskRequest, context: Context) -> tasks_pb2.Task:
        task = await self._tasks.update(
            current_caller(),
            request.task.id,
            to_draft(request.task),
            paths=request.update_mask.paths,
            etag=request.task.etag,
        )
        return to_message(task)

    async def DeleteTask(self, request: tasks_pb2.DeleteTaskRequest, context: Context) -> Empty:
        await self._tasks.delete(current_caller(), request.id, etag=request.etag, allow_missing=request.allow_missing)
        return Empty()

    async def CompleteTask(self, request: tasks_pb2.CompleteTaskRequest, context: Context) -> tasks_pb2.Task:
        return to_message(await self._tasks.complete(current_caller(), request.id, etag=request.etag))
