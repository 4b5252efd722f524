// Makes the six calls with the TypeScript client that openapi-generator generates. Arguments: URL and user.
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";

import { Configuration, ResponseError, StatusFromJSON, TaskServiceApi, TaskStatus } from "./client";
import type { Status } from "./client";

const [url, user] = process.argv.slice(2);
const api = new TaskServiceApi(new Configuration({ basePath: url, apiKey: user }));

async function statusOf(call: Promise<unknown>): Promise<Status> {
  try {
    await call;
  } catch (error) {
    if (error instanceof ResponseError) return StatusFromJSON(await error.response.json());
    throw error;
  }
  throw new Error("the call succeeded");
}

async function main(): Promise<void> {
  const task = await api.createTask({ createTaskBody: { title: "Buy milk" }, requestId: randomUUID() });
  assert.equal(task.title, "Buy milk");
  assert.deepEqual(task.updateTime, task.createTime);
  assert.deepEqual(await api.getTask({ id: task.id }), task);
  assert.deepEqual((await api.listTasks({ status: TaskStatus.TaskStatusIncomplete })).tasks, [task]);
  const ifMatch = `"${task.etag}"`;
  const changed = await api.updateTask({ id: task.id, updateTaskBody: { title: "Buy oat milk" }, ifMatch });
  assert.equal(changed.title, "Buy oat milk");
  const done = await api.completeTask({ id: task.id });
  assert.equal(done.status, TaskStatus.TaskStatusComplete);
  assert.deepEqual(done.completeTime, done.updateTime);
  await api.deleteTask({ id: task.id });

  const [info] = (await statusOf(api.getTask({ id: task.id }))).details;
  assert.ok("reason" in info && info.reason === "TASK_NOT_FOUND");
  const [, fields] = (await statusOf(api.listTasks({ pageToken: "another" }))).details;
  assert.ok("fieldViolations" in fields && fields.fieldViolations[0].field === "page_token");
  console.log("six calls");
}

main();
