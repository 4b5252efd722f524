// Calls Taskwell with connect-node, over gRPC:   node connect-node.js 127.0.0.1:50051 alice
import { randomUUID } from "node:crypto";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./generated/google/rpc/error_details_pb.js";
import { TaskService, TaskStatus } from "./generated/taskwell/v1/tasks_pb.js";

const [target, user] = process.argv.slice(2);

const asUser = (next) => (request) => {
  request.header.set("x-user-id", user);
  return next(request);
};
const client = createClient(
  TaskService,
  createGrpcTransport({ baseUrl: `http://${target}`, interceptors: [asUser], defaultTimeoutMs: 10_000 }),
);

// The error of a call that fails.
async function errorOf(promise) {
  const error = await promise.then(() => null, ConnectError.from);
  if (!error) throw new Error("the call succeeded");
  return error;
}

const task = await client.createTask({ task: { title: "Buy milk" }, requestId: randomUUID() });
console.log("CreateTask:", task.title, TaskStatus[task.status]);
console.log("GetTask:", (await client.getTask({ id: task.id })).title);
console.log("ListTasks:", (await client.listTasks({ pageSize: 10 })).tasks.length);
const changes = { task: { id: task.id, etag: task.etag, title: "Buy oat milk" }, updateMask: { paths: ["title"] } };
console.log("UpdateTask:", (await client.updateTask(changes)).title);
console.log("CompleteTask:", TaskStatus[(await client.completeTask({ id: task.id })).status]);
await client.deleteTask({ id: task.id });
console.log("DeleteTask: done");

const missing = await errorOf(client.getTask({ id: task.id }));
console.log("ErrorInfo:", Code[missing.code], missing.findDetails(ErrorInfoSchema)[0].reason);
const invalid = await errorOf(client.createTask({ task: { title: "" } }));
for (const { field, description } of invalid.findDetails(BadRequestSchema)[0].fieldViolations) {
  console.log("BadRequest:", field, description);
}

// With a rate limit, a caller that is too fast is told how long to wait.
for (let calls = 0; calls < 100; calls++) {
  const error = await client.listTasks({}).then(() => null, ConnectError.from);
  if (!error) continue;
  const { seconds, nanos } = error.findDetails(RetryInfoSchema)[0].retryDelay;
  console.log("RetryInfo:", Code[error.code], Number(seconds) + nanos / 1e9 > 0 ? "wait" : "now");
  break;
}
