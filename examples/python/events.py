"""Creates one task for each event of another system, here a shop, however often the event is delivered.

    shop-events | TASKWELL_CLIENT_TARGET=127.0.0.1:50051 python events.py

Events are lines of JSON: {"id": "4711", "user": "alice", "order": "Two litres of milk"}. The program prints the id of
each event that it has handled. The system delivers an event again if its id was not printed.
"""

import json
import os
import sys
import time
from typing import Any
from uuid import UUID, uuid5

from taskwell_client import AlreadyExists, Client, InvalidArgument, ResourceExhausted, Task, Unavailable, connect

# A namespace of our own, so that equal ids of other systems become other request ids.
SHOP = UUID("b53c2c3e-6a0f-4f7e-9a3b-5a8b6f2f0c41")


def task_of(client: Client, event: dict[str, Any]) -> Task:
    """Create the task of an event, or get it if the event was delivered before.

    Title and description depend on the event alone. With a time or a counter in them, the second delivery would be a
    different request with the same request_id, which raises AlreadyExists.
    """
    request_id = uuid5(SHOP, event["id"])
    user = client.as_user(event["user"])
    while True:
        try:
            return user.create(f"Ship order {event['id']}", event["order"], request_id=request_id)
        except (ResourceExhausted, Unavailable) as error:
            # The client has tried four times already. Retrying is safe: nothing is lost, and no task created twice.
            print(f"waiting: {error}", file=sys.stderr)
            time.sleep(error.retry_delay or 1)


def main() -> None:
    target = os.environ.get("TASKWELL_CLIENT_TARGET", "127.0.0.1:50051")
    with connect(target) as client:
        for line in sys.stdin:
            event = json.loads(line)
            try:
                task_of(client, event)
            except (AlreadyExists, InvalidArgument) as error:
                # A second delivery would fail as well: report the event.
                print(f"event {event['id']} cannot become a task: {error}", file=sys.stderr)
            print(event["id"], flush=True)


if __name__ == "__main__":
    main()
