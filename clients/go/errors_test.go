package taskwell

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

var sentinels = map[codes.Code]error{
	codes.Canceled:          context.Canceled,
	codes.InvalidArgument:   ErrInvalidArgument,
	codes.DeadlineExceeded:  context.DeadlineExceeded,
	codes.NotFound:          ErrNotFound,
	codes.AlreadyExists:     ErrAlreadyExists,
	codes.PermissionDenied:  ErrPermissionDenied,
	codes.ResourceExhausted: ErrResourceExhausted,
	codes.Aborted:           ErrAborted,
	codes.Unimplemented:     ErrUnimplemented,
	codes.Internal:          ErrInternal,
	codes.Unavailable:       ErrUnavailable,
	codes.Unauthenticated:   ErrUnauthenticated,
}

// failure returns the error of a call that a server answers with this status.
func failure(t *testing.T, answer error) error {
	t.Helper()
	client, _ := serve(t, always(answer), bob)
	_, err := client.CreateTask(t.Context(), &taskwellv1.CreateTaskRequest{})
	return err
}

func TestEachErrorMatchesThatOfItsCodeAlone(t *testing.T) {
	t.Parallel()
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		err := failure(t, status.Error(code, "What happened."))
		if status.Code(err) != code {
			t.Errorf("%v is %v to gRPC", code, status.Code(err))
		}
		for other, sentinel := range sentinels {
			if errors.Is(err, sentinel) != (other == code) {
				t.Errorf("%v: errors.Is(err, %v) is %v", code, sentinel, errors.Is(err, sentinel))
			}
		}
	}
	if failure(t, nil) != nil {
		t.Error("no error is one")
	}
}

func TestADeadlineThatPassesHereIsOneToo(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, always(nil), bob)
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, err := client.GetTask(ctx, &taskwellv1.GetTaskRequest{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestTheDetailsOfAnErrorCanBeRead(t *testing.T) {
	t.Parallel()
	info := &errdetails.ErrorInfo{Reason: "INVALID_FIELD", Domain: domain}
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "task.title", Description: "is required"},
	}}
	retry := &errdetails.RetryInfo{RetryDelay: durationpb.New(250 * time.Millisecond)}
	answer := refusal(t, codes.InvalidArgument, retry, bad, info)

	called := failure(t, answer)
	if want := "taskwell: CreateTask: What happened. (InvalidArgument, INVALID_FIELD)"; called.Error() != want {
		t.Errorf("says %q, not %q", called, want)
	}
	for name, err := range map[string]error{
		"of a call":         called,
		"wrapped":           fmt.Errorf("could not: %w", called),
		"of another client": answer,
	} {
		if reason := Reason(err); reason != "INVALID_FIELD" {
			t.Errorf("%s: the reason is %q", name, reason)
		}
		violations := Violations(err)
		if len(violations) != 1 || violations[0].GetField() != "task.title" || violations[0].GetDescription() != "is required" {
			t.Errorf("%s: the violations are %v", name, violations)
		}
		if delay, ok := RetryDelay(err); delay != 250*time.Millisecond || !ok {
			t.Errorf("%s: the delay is %v, %v", name, delay, ok)
		}
	}
}

func TestWhatAnErrorDoesNotSayIsNotThere(t *testing.T) {
	t.Parallel()
	stranger := &errdetails.ErrorInfo{Reason: "SERVICE_DISABLED", Domain: "googleapis.com"}
	for name, err := range map[string]error{
		"nothing":           nil,
		"of something else": errors.New("no call at all"),
		"without details":   failure(t, status.Error(codes.NotFound, "")),
		"of a proxy":        failure(t, refusal(t, codes.PermissionDenied, stranger)),
	} {
		delay, ok := RetryDelay(err)
		if Reason(err) != "" || Violations(err) != nil || delay != 0 || ok {
			t.Errorf("%s: %q, %v, %v, %v", name, Reason(err), Violations(err), delay, ok)
		}
	}
}
