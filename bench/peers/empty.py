"""The ceiling: a grpc.aio server on uvloop that returns constants and does nothing else.

python bench/peers/empty.py [DATABASE]      the argument is taken for the sake of the other peers, and not used
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import uvloop
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

NOW = Timestamp(seconds=1_790_000_000, nanos=123_456_000)
TASK = tasks_pb2.Task(
    id="00000000-0000-7000-8000-000000000001",
    title="Task 1 of the benchmark",
    description="Sixty characters or so of what there is to do about it, and why.",
    status=tasks_pb2.TASK_STATUS_INCOMPLETE,
    create_time=NOW,
    update_time=NOW,
    etag="1",
)
PAGE = tasks_pb2.ListTasksResponse(tasks=[TASK] * 20, next_page_token="A" * 96)

ANSWERS: Mapping[str, Message] = {
    "taskwell.v1.Task": TASK,
    "taskwell.v1.ListTasksResponse": PAGE,
    "google.protobuf.Empty": Empty(),
}
"""By the type of the response: of the size that Taskwell's have."""


def constant(method: MethodDescriptor) -> Callable[..., Awaitable[Message]]:
    answer = ANSWERS[method.output_type.full_name]

    async def respond(_servicer: object, _request: Message, _context: object) -> Message:
        return answer

    return respond


METHODS = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods
Constants: Any = type("Constants", (object,), {method.name: constant(method) for method in METHODS})


async def serve() -> None:
    server = grpc.aio.server()
    tasks_pb2_grpc.add_TaskServiceServicer_to_server(Constants(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"gRPC listening on 127.0.0.1:{port}", flush=True)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(None)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
