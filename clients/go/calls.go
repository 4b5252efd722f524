package taskwell

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	_ "google.golang.org/grpc/health" // watches the health that healthCheckConfig names
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// serviceConfig spreads calls over all addresses of the service that are SERVING, and retries calls that failed as
// UNAVAILABLE after about 0.1, 0.3 and 0.9 s. A failed attempt takes a token, a successful call gives back a fifth of one; while half of the tokens
// are used up, nothing is retried. https://github.com/grpc/grpc/blob/master/doc/service_config.md
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "taskwell.v1.TaskService"},
	"methodConfig": [{
		"name": [{"service": "taskwell.v1.TaskService"}],
		"retryPolicy": {
			"maxAttempts": 4,
			"initialBackoff": "0.1s",
			"maxBackoff": "2s",
			"backoffMultiplier": 3,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}],
	"retryThrottling": {"maxTokens": 100, "tokenRatio": 0.2}
}`

// intercept runs once for every call, around all of its attempts.
func (s *settings) intercept(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	ctx = withUser(ctx, s.user)
	if create, ok := request.(*taskwellv1.CreateTaskRequest); ok {
		request = withRequestID(create)
	}
	repeatable := isRepeatable(request)
	if !repeatable {
		// gRPC cannot retry a message that it did not buffer. It still repeats an attempt that never left this machine.
		opts = append(opts, grpc.MaxRetryRPCBufferSize(0))
	}
	for retries := 0; ; retries++ {
		err := invoke(ctx, method, request, reply, conn, opts...)
		switch status.Code(err) {
		case codes.ResourceExhausted: // refused: it had no effect
			if delay, ok := RetryDelay(err); ok && wait(ctx, jittered(max(delay, backedOff(delay, 2, retries)))) {
				continue
			}
		case codes.Canceled:
			closed := conn.GetState() == connectivity.Shutdown
			if repeatable && !closed && retries < maxCancelled && wait(ctx, backedOff(100*time.Millisecond, 3, retries)) {
				continue
			}
		}
		return wrapped(method, err)
	}
}

// maxCancelled is the number of retries of a call that the server cancelled, as it may while it shuts down. These retries
// are no part of serviceConfig, where calls that this program cancels would count as failures, and stop all retries.
const maxCancelled = 3

// maxBackoff is the maximum pause before a retry, unless the service asks for a longer one.
const maxBackoff = 2 * time.Second

// backedOff returns the pause before a retry: first, then a multiple of the last one.
func backedOff(first time.Duration, multiplier float64, retries int) time.Duration {
	return time.Duration(min(float64(first)*math.Pow(multiplier, float64(retries)), float64(maxBackoff)))
}

// jittered returns up to twice the pause, so that calls that were refused together are not sent again together.
func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (1 + rand.Float64()))
}

// wait waits, and reports false, at once if possible, if the context ends before.
func wait(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(deadline) <= pause {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// withRequestID returns the request, or a copy with a new request_id if it has none.
func withRequestID(request *taskwellv1.CreateTaskRequest) *taskwellv1.CreateTaskRequest {
	if request.GetRequestId() != "" {
		return request
	}
	identified := &taskwellv1.CreateTaskRequest{}
	proto.Merge(identified, request)
	identified.RequestId = uuid.NewString()
	return identified
}

// isRepeatable reports whether repeating a request that has already taken effect returns the same result. A write with an
// etag would find the etag stale, a delete would find no task. Unknown requests are not repeatable.
func isRepeatable(request any) bool {
	switch request := request.(type) {
	case *taskwellv1.GetTaskRequest, *taskwellv1.ListTasksRequest:
		return true
	case *taskwellv1.CreateTaskRequest:
		return request.GetRequestId() != ""
	case *taskwellv1.UpdateTaskRequest:
		return request.GetTask().GetEtag() == ""
	case *taskwellv1.CompleteTaskRequest:
		return request.GetEtag() == ""
	case *taskwellv1.DeleteTaskRequest:
		return request.GetEtag() == "" && request.GetAllowMissing()
	}
	return false
}
