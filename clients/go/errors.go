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

// What a failed call can be told by, with [errors.Is]. A deadline that passed is [context.DeadlineExceeded], a call that was
// given up [context.Canceled].
var (
	// ErrInvalidArgument: something in the request must be changed; [Violations] says what.
	ErrInvalidArgument error = codeError(codes.InvalidArgument)
	// ErrUnauthenticated: no user was named, or the token is not good.
	ErrUnauthenticated error = codeError(codes.Unauthenticated)
	// ErrPermissionDenied: this user, or this service, may not do this.
	ErrPermissionDenied error = codeError(codes.PermissionDenied)
	// ErrNotFound: the user has no such task.
	ErrNotFound error = codeError(codes.NotFound)
	// ErrAlreadyExists: the request_id was used before for a task of other content.
	ErrAlreadyExists error = codeError(codes.AlreadyExists)
	// ErrAborted: the task has changed since its etag was read. Get it again and decide anew.
	ErrAborted error = codeError(codes.Aborted)
	// ErrResourceExhausted: too much at once, or a message that is too large.
	ErrResourceExhausted error = codeError(codes.ResourceExhausted)
	// ErrUnavailable: the service or its database could not be reached, and retries did not help.
	ErrUnavailable error = codeError(codes.Unavailable)
	// ErrUnimplemented: there is a server, but it has no such method. Is the target a Taskwell?
	ErrUnimplemented error = codeError(codes.Unimplemented)
	// ErrInternal: a fault of the service; its message has the id under which it was logged there.
	ErrInternal error = codeError(codes.Internal)
)

// domain is that of the reasons of the service's errors.
const domain = "taskwell.v1"

// Reason answers why a call failed, as the service names it, for example "ETAG_STALE"; "" if it does not say. The reasons
// are listed in the service's README.
func Reason(err error) string {
	if info, ok := detail[*errdetails.ErrorInfo](err); ok && info.GetDomain() == domain {
		return info.GetReason()
	}
	return ""
}

// Violations answers which fields of the request are wrong, and how, if that is why the call failed.
func Violations(err error) []*errdetails.BadRequest_FieldViolation {
	bad, _ := detail[*errdetails.BadRequest](err)
	return bad.GetFieldViolations()
}

// RetryDelay answers how long to wait before the same call may succeed, and whether the service says so at all.
func RetryDelay(err error) (time.Duration, bool) {
	info, ok := detail[*errdetails.RetryInfo](err)
	return info.GetRetryDelay().AsDuration(), ok
}

// detail finds a detail of this type, in the error or in one that it wraps.
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

// codeError is matched by every call that failed with this code.
type codeError codes.Code

func (c codeError) Error() string {
	return "taskwell: " + codes.Code(c).String()
}

// callError is what a call of a Client fails with.
type callError struct {
	method string
	status *status.Status
}

// wrapped answers the error of a call as one that can be matched, nil for nil.
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

// GRPCStatus is what status.FromError and status.Code look for.
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
