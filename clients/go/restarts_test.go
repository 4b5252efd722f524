//go:build soak

package taskwell

import (
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// TestNoSafeCallFailsWhileServersRestart calls the services at TASKWELL_TEST_ADDRESSES until the file at TASKWELL_TEST_OVER
// exists. tests/soak/restarts.py restarts them meanwhile.
func TestNoSafeCallFailsWhileServersRestart(t *testing.T) {
	const atOnce, pause = 8, 10 * time.Millisecond
	addresses, over := strings.Split(given(t, "TASKWELL_TEST_ADDRESSES"), ","), given(t, "TASKWELL_TEST_OVER")
	client := dial(t, "rolling:///tasks", WithUser("go-"+uuid.NewString()), atAddresses(addresses...))
	// The other client leaves a server that is NOT_SERVING before it is refused a call. This one does not, and must retry.
	staying := dial(t, "rolling:///tasks", WithUser("go-"+uuid.NewString()), atAddresses(addresses...),
		WithDialOptions(grpc.WithDisableHealthCheck()))
	var succeeded, failed atomic.Int64
	count := func(err error) bool {
		if err != nil {
			failed.Add(1)
			t.Error(err)
			return false
		}
		succeeded.Add(1)
		time.Sleep(pause)
		return true
	}
	var group sync.WaitGroup
	for number := range atOnce {
		caller := client
		if number == 0 {
			caller = staying
		}
		group.Add(1)
		go func() {
			defer group.Done()
			for !exists(over) {
				safeCalls(t.Context(), caller, count)
			}
		}()
	}
	group.Wait()
	t.Logf("%d calls of the Go client succeeded, %d failed", succeeded.Load(), failed.Load())
}

// safeCalls makes a call of each method that may be repeated.
func safeCalls(ctx context.Context, client *Client, count func(error) bool) {
	task, err := client.CreateTask(ctx, &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: "Buy milk"}})
	if !count(err) {
		return
	}
	id := task.GetId()
	_, err = client.GetTask(ctx, &taskwellv1.GetTaskRequest{Id: id})
	count(err)
	_, err = client.ListTasks(ctx, &taskwellv1.ListTasksRequest{PageSize: 10})
	count(err)
	_, err = client.UpdateTask(ctx, &taskwellv1.UpdateTaskRequest{
		Task: &taskwellv1.Task{Id: id, Title: "Buy oat milk"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"title"}},
	})
	count(err)
	_, err = client.CompleteTask(ctx, &taskwellv1.CompleteTaskRequest{Id: id})
	count(err)
	_, err = client.DeleteTask(ctx, &taskwellv1.DeleteTaskRequest{Id: id, AllowMissing: true})
	count(err)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
