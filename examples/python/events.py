"""Makes a task of each event of another system, here a shop's: one, however often the event is delivered.

    shop-events | TASKWELL_CLIENT_TARGET=127.0.0.1:50051 python events.py

Events are lines of JSON: {"id": "4711", "user": "alice", "order": "Two litres of milk"}. Of each that is done with, the
id is printed, so that whoever delivers them knows; what was not printed when this program ends is delivered again.
"""

import json
import os
import sys
import time
from typing import Any
from uuid import UUID, uuid5

from taskwell_client import AlreadyExists, Client, InvalidArgument, ResourceExhausted, Task, Unavailable, connect

# Ours alone, made once: ids of the same look in other systems become other request ids.
SHOP = UUID("b53c2c3e-6a0f-4f7e-9a3b-5a8b6f2f0c41")


def task_of(client: Client, event: dict[str, Any]) -> Task:
    """The task of an event: made now, or when the event came for the first time.

    Title and description follow from the event alone. With the clock or a counter in them the second delivery would be
    another request under the same request_id, and AlreadyExists.
    """
    request_id = uuid5(SHOP, event["id"])
    user = client.as_user(event["user"])
    while True:
        try:
            return user.create(f"Ship order {event['id']}", event["order"], request_id=request_id)
        except (ResourceExhausted, Unavailable) as error:
            # The client has tried four times already: this takes longer. Nothing is lost, and nothing made twice.
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
                # Delivered again it would do no better; somebody has to look at it.
                print(f"event {event['id']} cannot become a task: {error}", file=sys.stderr)
            print(event["id"], flush=True)


if __name__ == "__main__":
    main()
