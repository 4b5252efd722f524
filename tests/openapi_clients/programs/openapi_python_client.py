"""Makes the six calls with the client that openapi-python-client generates. Arguments: URL and user."""

import sys
from uuid import UUID, uuid4

from taskwell_rest_client import Client
from taskwell_rest_client.api.task_service import (
    complete_task,
    create_task,
    delete_task,
    get_task,
    list_tasks,
    update_task,
    update_task_put,
)
from taskwell_rest_client.models import (
    BadRequest,
    CreateTaskBody,
    ErrorInfo,
    Status,
    Task,
    TaskStatus,
    UpdateTaskBody,
    UpdateTaskPutBody,
)

url, user = sys.argv[1:]
client = Client(base_url=url, headers={"x-user-id": user})

body = CreateTaskBody(title="Buy milk", description="Two litres")
request_id = uuid4()
task = create_task.sync(client=client, body=body, request_id=request_id)
assert isinstance(task, Task), task
assert (task.title, task.status, task.update_time) == ("Buy milk", TaskStatus.TASK_STATUS_INCOMPLETE, task.create_time)
assert create_task.sync(client=client, body=body, request_id=request_id) == task
task_id = task.id if isinstance(task.id, UUID) else UUID(task.id)
assert get_task.sync(task_id, client=client) == task
page = list_tasks.sync(client=client, page_size=10, status=TaskStatus.TASK_STATUS_INCOMPLETE)
assert page is not None
assert page.tasks == [task]
changed = update_task.sync(task_id, client=client, body=UpdateTaskBody(title="Buy oat milk"), if_match=f'"{task.etag}"')
assert isinstance(changed, Task), changed
assert (changed.title, changed.description) == ("Buy oat milk", "Two litres")
replaced = update_task_put.sync(task_id, client=client, body=UpdateTaskPutBody(title="Buy oat milk"))
assert isinstance(replaced, Task), replaced
assert replaced.description == ""
done = complete_task.sync(task_id, client=client)
assert isinstance(done, Task), done
assert done.status == TaskStatus.TASK_STATUS_COMPLETE
assert done.complete_time == done.update_time
assert delete_task.sync_detailed(task_id, client=client).status_code == 200

missing = get_task.sync(task_id, client=client)
assert isinstance(missing, Status), missing
[info] = missing.details
assert isinstance(info, ErrorInfo)
assert info.reason == "TASK_NOT_FOUND"
invalid = create_task.sync(client=client, body=CreateTaskBody(title=" "))
assert isinstance(invalid, Status), invalid
_, fields = invalid.details
assert isinstance(fields, BadRequest)
assert [each.field for each in fields.field_violations] == ["task.title"]
client.get_httpx_client().close()
print("six calls")
