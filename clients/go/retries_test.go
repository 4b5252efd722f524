package taskwell

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// overloaded is a refusal with this RetryInfo.
func overloaded(t *testing.T, delay time.Duration) error {
	t.Helper()
	return refusal(t, codes.ResourceExhausted, &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
}

func TestACallRefusedForOverloadIsRetriedAfterTheDelay(t *testing.T) {
	t.Parallel()
	const delay, refusals = 30 * time.Millisecond, 5
	refused := overloaded(t, delay)
	client, server := serve(t, func(number int, _ proto.Message) (proto.Message, error) {
		if number <= refusals {
			return nil, refused
		}
		return &emptypb.Empty{}, nil
	}, bob)
	started := time.Now()
	// A delete, which is not repeatable: a refused call had no effect.
	if _, err := client.DeleteTask(t.Context(), &taskwellv1.DeleteTaskRequest{Id: "a"}); err != nil {
		t.Error(err)
	}
	if least := refusals * delay; len(server.attempts) != refusals+1 || time.Since(started) < least {
		t.Errorf("%d attempts within %v, not %d in %v or more", len(server.attempts), time.Since(started), refusals+1, least)
	}
}

func TestACallRefusedForOverloadFailsWhenItsDeadlineComesBeforeTheRetry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer   error
		attempts int
	}{
		"a delay longer than the timeout": {overloaded(t, time.Hour), 1},
		"no delay":                        {status.Error(codes.ResourceExhausted, "too large"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := serve(t, always(test.answer), bob, WithTimeout(time.Minute))
			_, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
			if !errors.Is(err, ErrResourceExhausted) || len(server.attempts) != test.attempts {
				t.Errorf("failed with %v after %d attempts", err, len(server.attempts))
			}
		})
	}
}

func TestACallThatIsAlwaysRefusedFailsWithTheRefusalAtItsDeadline(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(overloaded(t, time.Millisecond)), bob, WithTimeout(300*time.Millisecond))
	_, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
	if delay, ok := RetryDelay(err); !errors.Is(err, ErrResourceExhausted) || !ok || delay != time.Millisecond {
		t.Errorf("failed with %v", err)
	}
	if attempts := len(server.attempts); attempts < 2 || attempts > 20 {
		t.Errorf("%d attempts: the pauses do not grow", attempts)
	}
}

func TestACallThatThisProgramCancelsIsNotRetried(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]error{"refused": overloaded(t, time.Hour), "cancelled": cancelled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			client, server := serve(t, func(int, proto.Message) (proto.Message, error) {
				time.AfterFunc(50*time.Millisecond, cancel) // in the pause before the retry
				return nil, answer
			}, bob, WithTimeout(2*time.Hour))
			ended := make(chan struct{})
			go func() {
				client.GetTask(ctx, &taskwellv1.GetTaskRequest{})
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatal("the call still waits")
			}
			if len(server.attempts) != 1 {
				t.Errorf("%d attempts", len(server.attempts))
			}
		})
	}
}

func TestCallsThatThisProgramCancelsDoNotStopRetries(t *testing.T) {
	t.Parallel()
	var canceling sync.Map // contexts of calls to be cancelled once they have arrived
	client, server := serve(t, func(number int, request proto.Message) (proto.Message, error) {
		if cancel, ok := canceling.Load(request.(*taskwellv1.GetTaskRequest).GetId()); ok {
			cancel.(context.CancelFunc)()
			return &taskwellv1.Task{}, nil
		}
		return nil, unavailable
	}, bob)
	ctx, cancel := context.WithCancel(t.Context())
	canceling.Store("cancelled", cancel)
	for range 120 {
		client.GetTask(ctx, &taskwellv1.GetTaskRequest{Id: "cancelled"})
		ctx, cancel = context.WithCancel(t.Context())
		canceling.Store("cancelled", cancel)
	}
	cancel()
	before := len(server.attempts)
	client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
	if attempts := len(server.attempts) - before; attempts != 4 {
		t.Errorf("%d attempts, not 4", attempts)
	}
}

func TestAClosedClientFailsAtOnce(t *testing.T) {
	t.Parallel()
	client, server := serve(t, always(nil), bob)
	client.Close()
	started := time.Now()
	if _, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("failed with %v", err)
	}
	if len(server.attempts) > 0 || time.Since(started) > 10*backedOff(100*time.Millisecond, 3, 0) {
		t.Errorf("%d attempts, %v", len(server.attempts), time.Since(started))
	}
}
