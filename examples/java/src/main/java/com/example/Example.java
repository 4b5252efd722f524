package com.example;

import com.example.taskwell.v1.CompleteTaskRequest;
import com.example.taskwell.v1.CreateTaskRequest;
import com.example.taskwell.v1.DeleteTaskRequest;
import com.example.taskwell.v1.GetTaskRequest;
import com.example.taskwell.v1.ListTasksRequest;
import com.example.taskwell.v1.Task;
import com.example.taskwell.v1.TaskServiceGrpc;
import com.example.taskwell.v1.UpdateTaskRequest;
import com.google.protobuf.Any;
import com.google.protobuf.FieldMask;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Calls Taskwell with grpc-java. Arguments: the target and the user. */
public final class Example {
  private final TaskServiceGrpc.TaskServiceBlockingStub stub;

  private Example(ManagedChannel channel, String user) {
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("x-user-id", Metadata.ASCII_STRING_MARSHALLER), user);
    stub = TaskServiceGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata));
  }

  public static void main(String[] arguments) throws Exception {
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      Example example = new Example(channel, arguments[1]);
      example.makeSixCalls();
      example.readErrors();
    } finally {
      channel.shutdownNow().awaitTermination(10, TimeUnit.SECONDS);
    }
  }

  /** The stub with a deadline, which starts now. */
  private TaskServiceGrpc.TaskServiceBlockingStub tasks() {
    return stub.withDeadlineAfter(10, TimeUnit.SECONDS);
  }

  private void makeSixCalls() {
    Task task = tasks().createTask(CreateTaskRequest.newBuilder()
        .setTask(Task.newBuilder().setTitle("Buy milk"))
        .setRequestId(UUID.randomUUID().toString())
        .build());
    System.out.println("CreateTask: " + task.getTitle() + " " + task.getStatus());
    GetTaskRequest get = GetTaskRequest.newBuilder().setId(task.getId()).build();
    System.out.println("GetTask: " + tasks().getTask(get).getTitle());
    ListTasksRequest list = ListTasksRequest.newBuilder().setPageSize(10).build();
    System.out.println("ListTasks: " + tasks().listTasks(list).getTasksCount());
    UpdateTaskRequest changes = UpdateTaskRequest.newBuilder()
        .setTask(Task.newBuilder().setId(task.getId()).setEtag(task.getEtag()).setTitle("Buy oat milk"))
        .setUpdateMask(FieldMask.newBuilder().addPaths("title"))
        .build();
    System.out.println("UpdateTask: " + tasks().updateTask(changes).getTitle());
    CompleteTaskRequest complete = CompleteTaskRequest.newBuilder().setId(task.getId()).build();
    System.out.println("CompleteTask: " + tasks().completeTask(complete).getStatus());
    tasks().deleteTask(DeleteTaskRequest.newBuilder().setId(task.getId()).build());
    System.out.println("DeleteTask: done");
  }

  private void readErrors() throws InvalidProtocolBufferException {
    try {
      tasks().getTask(GetTaskRequest.newBuilder().setId(UUID.randomUUID().toString()).build());
    } catch (StatusRuntimeException error) {
      ErrorInfo info = detail(error, ErrorInfo.class);
      System.out.println("ErrorInfo: " + error.getStatus().getCode() + " " + info.getReason());
    }
    try {
      tasks().createTask(CreateTaskRequest.newBuilder().setTask(Task.getDefaultInstance()).build());
    } catch (StatusRuntimeException error) {
      for (BadRequest.FieldViolation each : detail(error, BadRequest.class).getFieldViolationsList()) {
        System.out.println("BadRequest: " + each.getField() + " " + each.getDescription());
      }
    }
    // With a rate limit, a caller that is too fast is told how long to wait.
    for (int calls = 0; calls < 100; calls++) {
      try {
        tasks().listTasks(ListTasksRequest.getDefaultInstance());
      } catch (StatusRuntimeException error) {
        var delay = detail(error, RetryInfo.class).getRetryDelay();
        boolean waits = delay.getSeconds() > 0 || delay.getNanos() > 0;
        System.out.println("RetryInfo: " + error.getStatus().getCode() + " " + (waits ? "wait" : "now"));
        break;
      }
    }
  }

  /** The detail of this type in an error. */
  private static <T extends Message> T detail(StatusRuntimeException error, Class<T> type)
      throws InvalidProtocolBufferException {
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(type)) {
        return detail.unpack(type);
      }
    }
    throw error;
  }
}
