package taskwell

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

var (
	unavailable = status.Error(codes.Unavailable, "not now")
	cancelled   = status.Error(codes.Canceled, "the server shuts down")
)

func TestACreateIsSentAgainWithTheSameRequestID(t *testing.T) {
	t.Parallel()
	client, server := serve(t, func(number int, _ proto.Message) (proto.Message, error) {
		if number < 3 {
			return nil, unavailable
		}
		return &taskwellv1.Task{Id: "made"}, nil
	}, bob)
	request := &taskwellv1.CreateTaskRequest{Task: &taskwellv1.Task{Title: "Buy milk"}}
	task, err := client.CreateTask(t.Context(), request)
	if err != nil || task.GetId() != "made" {
		t.Fatalf("answered %v, %v", task, err)
	}
	ids := map[string]int{}
	for _, attempt := range server.attempts {
		received := attempt.request.(*taskwellv1.CreateTaskRequest)
		ids[received.GetRequestId()]++
		if received.GetTask().GetTitle() != "Buy milk" {
			t.Errorf("received %v", received)
		}
		if _, err := uuid.Parse(received.GetRequestId()); err != nil {
			t.Errorf("the request_id is no UUID: %v", err)
		}
	}
	if len(server.attempts) != 3 || len(ids) != 1 {
		t.Errorf("%d attempts with the request_ids %v, not three with one", len(server.attempts), ids)
	}
	if request.GetRequestId() != "" {
		t.Error("the caller's request was changed")
	}
}

func TestEachCreateHasARequestIDOfItsOwnOrTheCallers(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(nil), bob)
	own := uuid.NewString()
	for _, id := range []string{"", "", own} {
		if _, err := client.CreateTask(t.Context(), &taskwellv1.CreateTaskRequest{RequestId: id}); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, attempt := range server.attempts {
		ids = append(ids, attempt.request.(*taskwellv1.CreateTaskRequest).GetRequestId())
	}
	if ids[0] == ids[1] || ids[2] != own {
		t.Errorf("request_ids %v", ids)
	}
}

func TestOnlyWhatCannotMisleadIsSentAgain(t *testing.T) {
	t.Parallel()
	call := func(client *Client, request proto.Message) error {
		var err error
		switch request := request.(type) {
		case *taskwellv1.CreateTaskRequest:
			_, err = client.CreateTask(t.Context(), request)
		case *taskwellv1.GetTaskRequest:
			_, err = client.GetTask(t.Context(), request)
		case *taskwellv1.ListTasksRequest:
			_, err = client.ListTasks(t.Context(), request)
		case *taskwellv1.UpdateTaskRequest:
			_, err = client.UpdateTask(t.Context(), request)
		case *taskwellv1.CompleteTaskRequest:
			_, err = client.CompleteTask(t.Context(), request)
		case *taskwellv1.DeleteTaskRequest:
			_, err = client.DeleteTask(t.Context(), request)
		default: // of a method that is not known here
			err = client.Conn().Invoke(t.Context(), taskwellv1.TaskService_GetTask_FullMethodName, request, &emptypb.Empty{})
		}
		return err
	}
	for name, test := range map[string]struct {
		request  proto.Message
		attempts int
	}{
		"create":                         {&taskwellv1.CreateTaskRequest{}, 4},
		"get":                            {&taskwellv1.GetTaskRequest{}, 4},
		"list":                           {&taskwellv1.ListTasksRequest{}, 4},
		"update":                         {&taskwellv1.UpdateTaskRequest{Task: &taskwellv1.Task{Id: "a"}}, 4},
		"update with an etag":            {&taskwellv1.UpdateTaskRequest{Task: &taskwellv1.Task{Etag: "1"}}, 1},
		"complete":                       {&taskwellv1.CompleteTaskRequest{Id: "a"}, 4},
		"complete with an etag":          {&taskwellv1.CompleteTaskRequest{Id: "a", Etag: "1"}, 1},
		"delete":                         {&taskwellv1.DeleteTaskRequest{Id: "a"}, 1},
		"delete what may be missing":     {&taskwellv1.DeleteTaskRequest{Id: "a", AllowMissing: true}, 4},
		"delete with an etag, the same":  {&taskwellv1.DeleteTaskRequest{Etag: "1", AllowMissing: true}, 1},
		"what is not known":              {&emptypb.Empty{}, 1},
		"an empty request is still sent": {&taskwellv1.DeleteTaskRequest{}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for want, failure := range map[error]error{ErrUnavailable: unavailable, context.Canceled: cancelled} {
				client, server := serve(t, always(failure), bob)
				if err := call(client, test.request); !errors.Is(err, want) {
					t.Errorf("failed with %v", err)
				}
				if len(server.attempts) != test.attempts {
					t.Errorf("%v: %d attempts, not %d", want, len(server.attempts), test.attempts)
				}
			}
		})
	}
}

func TestOnlyUnavailableAndCancelledAreSentAgain(t *testing.T) {
	t.Parallel()
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		client, server := serve(t, always(status.Error(code, "")), bob)
		if _, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{}); status.Code(err) != code {
			t.Errorf("%v: failed with %v", code, err)
		}
		if again := len(server.attempts) > 1; again != (code == codes.Unavailable || code == codes.Canceled) {
			t.Errorf("%v: %d attempts", code, len(server.attempts))
		}
	}
}

// A service config from DNS could retry creates by a policy of its own.
func TestWhatIsSentAgainIsNotForTheResolverToSay(t *testing.T) {
	t.Parallel()
	finder := manual.NewBuilderWithScheme("passthrough")
	finder.BuildCallback = func(_ resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) {
		finder.InitialState(resolver.State{
			Addresses:     []resolver.Address{{Addr: "localhost"}},
			ServiceConfig: conn.ParseServiceConfig(`{"methodConfig": [{"name": [{}]}]}`),
		})
	}
	client, server := serve(t, always(unavailable), bob, WithDialOptions(grpc.WithResolvers(finder)))
	client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
	if len(server.attempts) != 4 {
		t.Errorf("%d attempts, not 4", len(server.attempts))
	}
}

func TestWhereAllFailsNothingIsSentAgain(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(unavailable), bob)
	get := func() { client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{}) }
	var calls sync.WaitGroup
	for range 60 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			get()
		}()
	}
	calls.Wait()
	before := len(server.attempts)
	get()
	if more := len(server.attempts) - before; more != 1 {
		t.Errorf("%d attempts after %d had failed, not 1", more, before)
	}
}

func TestAWriteThatFoundNoConnectionIsMadeAnew(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(nil), bob)
	server.refusals = 1
	if _, err := client.DeleteTask(t.Context(), &taskwellv1.DeleteTaskRequest{Id: "a"}); err != nil {
		t.Error(err)
	}
	if server.dialled != 2 {
		t.Errorf("dialled %d times, not twice", server.dialled)
	}
}

func TestCallsHaveADeadline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts []Option
		own  time.Duration // of the context, if not 0
		want time.Duration
	}{
		"by default":        {nil, 0, DefaultTimeout},
		"by the option":     {[]Option{WithTimeout(time.Hour)}, 0, time.Hour},
		"by the context":    {nil, time.Hour, time.Hour},
		"the context's own": {[]Option{WithTimeout(time.Minute)}, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := serve(t, always(nil), append(test.opts, bob)...)
			ctx := t.Context()
			if test.own > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, test.own)
				defer cancel()
			}
			if _, err := client.GetTask(ctx, &taskwellv1.GetTaskRequest{}); err != nil {
				t.Fatal(err)
			}
			deadline, ok := server.attempts[0].ctx.Deadline()
			if left := time.Until(deadline); !ok || left > test.want || left < test.want/2 {
				t.Errorf("the deadline is %v from now, not %v", left, test.want)
			}
		})
	}
}

func TestConnectionsAreTakenInTurn(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(nil), bob, WithConnections(3))
	for range 9 {
		if _, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if server.dialled != 3 {
		t.Errorf("%d connections, not 3", server.dialled)
	}
}
