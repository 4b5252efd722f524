package taskwell

import (
	"context"
	"testing"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// BenchmarkGetTask compares a call with one over a bare connection that sends the same, against a real service:
//
//	TASKWELL_TEST_ADDRESSES=127.0.0.1:50051 go test -run '^$' -bench . -count 10 ./taskwell
func BenchmarkGetTask(b *testing.B) {
	address := given(b, "TASKWELL_TEST_ADDRESSES")
	client, err := Dial(address, bob)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	bare, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	task, err := client.CreateTask(b.Context(), &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: "Buy milk"}})
	if err != nil {
		b.Fatal(err)
	}
	request := &taskwellv1.GetTaskRequest{Id: task.GetId()}

	b.Run("bare", func(b *testing.B) {
		stub := taskwellv1.NewTaskServiceClient(bare)
		for b.Loop() {
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(b.Context(), userKey, "bob"), DefaultTimeout)
			_, err := stub.GetTask(ctx, request)
			cancel()
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("client", func(b *testing.B) {
		for b.Loop() {
			if _, err := client.GetTask(b.Context(), request); err != nil {
				b.Fatal(err)
			}
		}
	})
}
