package taskwell

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// given returns an environment variable that names the services to test against, and skips the test without it.
func given(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Skipf("%s is not set: nothing was tested against a real service (tests/clients/test_go.py starts them)", name)
	}
	return value
}

// onEachService runs a test against every service that the environment names, for a new user.
func onEachService(t *testing.T, test func(t *testing.T, address string, user Option)) {
	for address := range strings.SplitSeq(given(t, "TASKWELL_TEST_ADDRESSES"), ",") {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			test(t, address, WithUser("go-"+uuid.NewString()))
		})
	}
}

func dial(t *testing.T, target string, opts ...Option) *Client {
	t.Helper()
	client, err := Dial(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func create(t *testing.T, client *Client, title string) *taskwellv1.Task {
	t.Helper()
	task, err := client.CreateTask(t.Context(), &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: title}})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestTheServiceAndATask(t *testing.T) {
	t.Parallel()
	onEachService(t, func(t *testing.T, address string, user Option) {
		client := dial(t, address, user)
		task := create(t, client, "Buy milk")
		if task.GetTitle() != "Buy milk" || task.GetStatus() != taskwellv1.TaskStatus_TASK_STATUS_INCOMPLETE || task.GetId() == "" {
			t.Errorf("created %v", task)
		}

		got, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{Id: task.GetId()})
		if err != nil || !proto.Equal(got, task) {
			t.Errorf("got %v, %v, not %v", got, err, task)
		}

		update := &taskwellv1.UpdateTaskRequest{
			Task:       &taskwellv1.Task{Id: task.GetId(), Title: "Buy oat milk", Etag: task.GetEtag()},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"title"}},
		}
		updated, err := client.UpdateTask(t.Context(), update)
		if err != nil || updated.GetTitle() != "Buy oat milk" || updated.GetEtag() == task.GetEtag() {
			t.Errorf("updated to %v, %v", updated, err)
		}
		if _, err = client.UpdateTask(t.Context(), update); !errors.Is(err, ErrAborted) || Reason(err) != "ETAG_STALE" {
			t.Errorf("with the etag from before: %v", err)
		}

		completed, err := client.CompleteTask(t.Context(), &taskwellv1.CompleteTaskRequest{Id: task.GetId()})
		if err != nil || completed.GetStatus() != taskwellv1.TaskStatus_TASK_STATUS_COMPLETE || !completed.GetCompleteTime().IsValid() {
			t.Errorf("completed to %v, %v", completed, err)
		}

		if _, err = client.DeleteTask(t.Context(), &taskwellv1.DeleteTaskRequest{Id: task.GetId()}); err != nil {
			t.Error(err)
		}
		if _, err = client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{Id: task.GetId()}); !errors.Is(err, ErrNotFound) {
			t.Errorf("got afterwards: %v", err)
		}
	})
}

func TestTheServiceAndAWalk(t *testing.T) {
	t.Parallel()
	onEachService(t, func(t *testing.T, address string, user Option) {
		client := dial(t, address, user, WithConnections(2))
		var want []string
		for n := range 5 {
			want = append(want, create(t, client, fmt.Sprint("Task ", n)).GetId())
		}
		slices.Reverse(want) // the newest first
		var met []string
		for task, err := range client.All(t.Context(), &taskwellv1.ListTasksRequest{PageSize: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			met = append(met, task.GetId())
		}
		if !slices.Equal(met, want) {
			t.Errorf("met %v, not %v", met, want)
		}
	})
}

func TestTheServiceAndWhatItRefuses(t *testing.T) {
	t.Parallel()
	onEachService(t, func(t *testing.T, address string, user Option) {
		client := dial(t, address, user)
		request := &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: " "}, RequestId: "7"}
		_, err := client.CreateTask(t.Context(), request)
		var fields []string
		for _, violation := range Violations(err) {
			fields = append(fields, violation.GetField())
		}
		if !errors.Is(err, ErrInvalidArgument) || !slices.Equal(fields, []string{"task.title", "request_id"}) {
			t.Errorf("%v in %v", err, fields)
		}

		request = &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: "Buy milk"}, RequestId: uuid.NewString()}
		for range 2 {
			if _, err := client.CreateTask(t.Context(), request); err != nil {
				t.Error(err)
			}
		}
		request.Task.Title = "Buy bread"
		if _, err := client.CreateTask(t.Context(), request); !errors.Is(err, ErrAlreadyExists) {
			t.Errorf("other content: %v", err)
		}

		_, err = client.GetTask(AsUser(t.Context(), "not a user"), &taskwellv1.GetTaskRequest{})
		if !errors.Is(err, ErrUnauthenticated) || Reason(err) != "CALLER_INVALID" {
			t.Errorf("a user that is none: %v", err)
		}
	})
}

// TestTheServiceAndLostAnswers makes tasks through a network that cuts the connection at every twentieth response.
func TestTheServiceAndLostAnswers(t *testing.T) {
	t.Parallel()
	const creates, every = 60, 20
	onEachService(t, func(t *testing.T, address string, user Option) {
		proxy := cutting(t, address, every)
		client := dial(t, proxy.address, user)
		for n := range creates {
			create(t, client, fmt.Sprint("Task ", n))
		}
		if cuts := proxy.cuts.Load(); cuts < creates/every {
			t.Fatalf("the connection was cut %d times only", cuts)
		}
		titles := map[string]int{}
		for task, err := range dial(t, address, user).All(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			titles[task.GetTitle()]++
		}
		for title, number := range titles {
			if number != 1 {
				t.Errorf("%d tasks of the name %s", number, title)
			}
		}
		if len(titles) != creates {
			t.Errorf("%d names, not %d", len(titles), creates)
		}
	})
}

// TestTheServiceAndManyCallsAtOnce makes as many calls as TASKWELL_TEST_CALLS says, or 1,000. On one connection they wait
// in the client; on ten the service refuses what is above its limit, and the client retries.
func TestTheServiceAndManyCallsAtOnce(t *testing.T) {
	t.Parallel()
	calls := 1000
	if given, err := strconv.Atoi(os.Getenv("TASKWELL_TEST_CALLS")); err == nil {
		calls = given
	}
	for _, connections := range []int{1, 10} {
		t.Run(fmt.Sprint(connections), func(t *testing.T) {
			onEachService(t, func(t *testing.T, address string, user Option) {
				client := dial(t, address, user, WithConnections(connections), WithTimeout(time.Minute))
				id := create(t, client, "Buy milk").GetId()
				started := time.Now()
				var group sync.WaitGroup
				for range calls {
					group.Add(1)
					go func() {
						defer group.Done()
						if _, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{Id: id}); err != nil {
							t.Error(err)
						}
					}()
				}
				group.Wait()
				t.Logf("%d calls on %d connections in %v", calls, connections, time.Since(started))
			})
		})
	}
}

func TestTheServiceThatIsNotThere(t *testing.T) {
	t.Parallel()
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := held.Addr().String()
	held.Close()
	_, err = dial(t, address, bob).GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), address) {
		t.Errorf("failed with %v", err)
	}
}

func TestTheServiceThatAsksForACertificateAndAToken(t *testing.T) {
	t.Parallel()
	address := given(t, "TASKWELL_TEST_SECURE_ADDRESS")
	client := dial(t, address,
		WithCA(given(t, "TASKWELL_TEST_CA")),
		WithClientCertificate(given(t, "TASKWELL_TEST_CERT"), given(t, "TASKWELL_TEST_KEY")),
		WithToken(given(t, "TASKWELL_TEST_TOKEN")),
	)
	task := create(t, client, "Buy milk")
	if got, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{Id: task.GetId()}); err != nil || !proto.Equal(got, task) {
		t.Errorf("got %v, %v, not %v", got, err, task)
	}
	health, err := grpc_health_v1.NewHealthClient(client.Conn()).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("its health is %v, %v", health, err)
	}
}
