// Makes the six calls with the types of openapi-typescript and the client openapi-fetch. Arguments: URL and user.
import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";

import createClient from "openapi-fetch";

import type { components, paths } from "./client";

const [url, user] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl: url, headers: { "x-user-id": user } });

function value<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

function status(answer: { error?: components["schemas"]["Status"] }): components["schemas"]["Status"] {
  if (answer.error === undefined) throw new Error("the call succeeded");
  return answer.error;
}

async function main(): Promise<void> {
  const query = { requestId: randomUUID() };
  const task = value(await api.POST("/v1/tasks", { params: { query }, body: { title: "Buy milk" } }));
  assert.equal(task.title, "Buy milk");
  assert.equal(task.updateTime, task.createTime);
  const path = { id: task.id };
  assert.deepEqual(value(await api.GET("/v1/tasks/{id}", { params: { path } })), task);
  const incomplete = { status: "TASK_STATUS_INCOMPLETE" as const };
  assert.deepEqual(value(await api.GET("/v1/tasks", { params: { query: incomplete } })).tasks, [task]);
  const header = { "If-Match": `"${task.etag}"` };
  const body = { title: "Buy oat milk" };
  assert.equal(value(await api.PATCH("/v1/tasks/{id}", { params: { path, header }, body })).title, body.title);
  const done = value(await api.POST("/v1/tasks/{id}:complete", { params: { path } }));
  assert.equal(done.status, "TASK_STATUS_COMPLETE");
  assert.equal(done.completeTime, done.updateTime);
  value(await api.DELETE("/v1/tasks/{id}", { params: { path } }));

  const [info] = status(await api.GET("/v1/tasks/{id}", { params: { path } })).details;
  assert.ok("reason" in info && info.reason === "TASK_NOT_FOUND");
  const [, fields] = status(await api.GET("/v1/tasks", { params: { query: { pageToken: "another" } } })).details;
  assert.ok("fieldViolations" in fields && fields.fieldViolations[0].field === "page_token");
  console.log("six calls");
}

main();
