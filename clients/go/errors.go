package taskwell

import (
	"context"
	"fmt"
	"path"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Errors of failed calls, to be matched with [errors.Is]. A call that exceeded its deadline also matches
// [context.DeadlineExceeded], a cancelled call [context.Canceled].
var (
	// ErrInvalidArgument: the request is invalid; [Violations] names the fields.
	ErrInvalidArgument error = codeError(codes.InvalidArgument)
	// ErrUnauthenticated: the call names no user, or its token is invalid.
	ErrUnauthenticated error = codeError(codes.Unauthenticated)
	// ErrPermissionDenied: the caller may not call this method.
	ErrPermissionDenied error = codeError(codes.PermissionDenied)
	// ErrNotFound: the user has no such task.
	ErrNotFound error = codeError(codes.NotFound)
	// ErrAlreadyExists: the request_id was used before to create a task with other content.
	ErrAlreadyExists error = codeError(codes.AlreadyExists)
	// ErrAborted: the task has changed since its etag was read. Read it again, then decide.
	ErrAborted error = codeError(codes.Aborted)
	// ErrResourceExhausted: too many calls, until the deadline of this one, or a message that is too large.
	ErrResourceExhausted error = codeError(codes.ResourceExhausted)
	// ErrUnavailable: the service or its database could not be reached, and retries did not help.
	ErrUnavailable error = codeError(codes.Unavailable)
	// ErrUnimplemented: the server has no such method. Is the target a Taskwell?
	ErrUnimplemented error = codeError(codes.Unimplemented)
	// ErrInternal: a fault of the service; the message has the id under which the service logged it.
	ErrInternal error = codeError(codes.Internal)
)

// domain is the ErrorInfo domain of the service.
const domain = "taskwell.v1"

// Reason returns the service's stable name for the error, like "ETAG_STALE", or "" if the service did not answer. The
// service's README lists them.
func Reason(err error) string {
	if info, ok := detail[*errdetails.ErrorInfo](err); ok && info.GetDomain() == domain {
		return info.GetReason()
	}
	return ""
}

// Violations returns the invalid fields of the request, of an [ErrInvalidArgument].
func Violations(err error) []*errdetails.BadRequest_FieldViolation {
	bad, _ := detail[*errdetails.BadRequest](err)
	return bad.GetFieldViolations()
}

// RetryDelay returns the time after which the same call may succeed, and false if the service names none.
func RetryDelay(err error) (time.Duration, bool) {
	info, ok := detail[*errdetails.RetryInfo](err)
	return info.GetRetryDelay().AsDuration(), ok
}

// detail returns the first detail of this type, of the error or of one that it wraps.
func detail[T any](err error) (found T, ok bool) {
	if err == nil {
		return found, false
	}
	for _, each := range status.Convert(err).Details() {
		if found, ok = each.(T); ok {
			return found, true
		}
	}
	return found, false
}

// codeError matches every call that failed with this code.
type codeError codes.Code

func (c codeError) Error() string {
	return "taskwell: " + codes.Code(c).String()
}

// callError is the error of every failed call of a Client.
type callError struct {
	method string
	status *status.Status
}

// wrapped turns the error of a call into a callError, and nil into nil.
func wrapped(method string, err error) error {
	if err == nil {
		return nil
	}
	return &callError{path.Base(method), status.Convert(err)}
}

func (e *callError) Error() string {
	code := e.status.Code().String()
	if reason := Reason(e); reason != "" {
		code += ", " + reason
	}
	return fmt.Sprintf("taskwell: %s: %s (%s)", e.method, e.status.Message(), code)
}

// GRPCStatus makes status.FromError and status.Code work.
func (e *callError) GRPCStatus() *status.Status {
	return e.status
}

func (e *callError) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.status.Code() == codes.DeadlineExceeded
	case context.Canceled:
		return e.status.Code() == codes.Canceled
	}
	return target == codeError(e.status.Code())
}
