// Calls Taskwell with grpc-js, without generated code:   node grpc-js.js 127.0.0.1:50051 alice
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";

import grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

const [target, user] = process.argv.slice(2);

// The descriptors of the contract and of google.rpc. Fields have their names in the proto, in snake_case: others are
// dropped without an error.
const protoset = new URL("../../generated/taskwell.protoset", import.meta.url);
const { taskwell, google } = grpc.loadPackageDefinition(
  loadFileDescriptorSetFromBuffer(readFileSync(protoset), { enums: String, defaults: true }),
);

const client = new taskwell.v1.TaskService(target, grpc.credentials.createInsecure());
const metadata = new grpc.Metadata();
metadata.set("x-user-id", user);

// A call with a deadline that returns a promise.
function call(method, request) {
  return promisify(client[method].bind(client))(request, metadata, { deadline: Date.now() + 10_000 });
}

// The details of an error by their names: ErrorInfo, BadRequest, RetryInfo.
function detailsOf(error) {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const details = google.rpc.Status.deserialize(bytes).details;
  return Object.fromEntries(
    details.map(({ type_url, value }) => {
      const name = type_url.slice(type_url.lastIndexOf(".") + 1);
      return [name, google.rpc[name].deserialize(value)];
    }),
  );
}

// The error of a call that fails.
async function errorOf(promise) {
  const error = await promise.then(() => null, (reason) => reason);
  if (!error) throw new Error("the call succeeded");
  return error;
}

const task = await call("CreateTask", { task: { title: "Buy milk" }, request_id: randomUUID() });
console.log("CreateTask:", task.title, task.status);
console.log("GetTask:", (await call("GetTask", { id: task.id })).title);
console.log("ListTasks:", (await call("ListTasks", { page_size: 10 })).tasks.length);
const changes = { task: { id: task.id, etag: task.etag, title: "Buy oat milk" }, update_mask: { paths: ["title"] } };
console.log("UpdateTask:", (await call("UpdateTask", changes)).title);
console.log("CompleteTask:", (await call("CompleteTask", { id: task.id })).status);
await call("DeleteTask", { id: task.id });
console.log("DeleteTask: done");

const missing = await errorOf(call("GetTask", { id: task.id }));
console.log("ErrorInfo:", grpc.status[missing.code], detailsOf(missing).ErrorInfo.reason);
const invalid = await errorOf(call("CreateTask", { task: { title: "" } }));
for (const { field, description } of detailsOf(invalid).BadRequest.field_violations) {
  console.log("BadRequest:", field, description);
}

// With a rate limit, a caller that is too fast is told how long to wait.
for (let calls = 0; calls < 100; calls++) {
  const error = await call("ListTasks", {}).then(() => null, (reason) => reason);
  if (!error) continue;
  const { seconds, nanos } = detailsOf(error).RetryInfo.retry_delay;
  console.log("RetryInfo:", grpc.status[error.code], Number(seconds) + nanos / 1e9 > 0 ? "wait" : "now");
  break;
}
client.close();
