"""Makes the six calls with the Python client that openapi-generator generates. Arguments: URL and user."""

import sys
from uuid import uuid4

from openapi_client import ApiClient, Configuration, CreateTaskBody, TaskServiceApi, TaskStatus, UpdateTaskBody
from openapi_client.exceptions import BadRequestException, NotFoundException

url, user = sys.argv[1:]
api = TaskServiceApi(ApiClient(Configuration(host=url, api_key={"user": user})))

request_id = str(uuid4())
body = CreateTaskBody(title="Buy milk", description="Two litres")
task = api.create_task(body, request_id=request_id)
assert (task.title, task.status, task.update_time) == ("Buy milk", TaskStatus.TASK_STATUS_INCOMPLETE, task.create_time)
assert api.create_task(body, request_id=request_id) == task
assert api.get_task(task.id) == task
assert api.list_tasks(page_size=10, status=TaskStatus.TASK_STATUS_INCOMPLETE).tasks == [task]
changed = api.update_task(task.id, UpdateTaskBody(title="Buy oat milk"), if_match=f'"{task.etag}"')
assert (changed.title, changed.description) == ("Buy oat milk", "Two litres")
done = api.complete_task(task.id)
assert done.status == TaskStatus.TASK_STATUS_COMPLETE
assert done.complete_time == done.update_time
api.delete_task(task.id)

try:
    api.get_task(task.id)
    raise AssertionError("the task is still there")
except NotFoundException as error:
    info = error.data.details[0].actual_instance
assert info.reason == "TASK_NOT_FOUND"
try:
    api.list_tasks(page_token="another")
    raise AssertionError("the page token was accepted")
except BadRequestException as error:
    fields = error.data.details[1].actual_instance
assert [each.var_field for each in fields.field_violations] == ["page_token"]
print("six calls")
