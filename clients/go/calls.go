package taskwell

import (
	"context"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// serviceConfig spreads calls over all addresses of the service, and retries calls that failed as UNAVAILABLE after about
// 0.1, 0.3 and 0.9 s. A failed attempt takes a token, a successful call gives back a fifth of one; while half of the tokens
// are used up, nothing is retried. https://github.com/grpc/grpc/blob/master/doc/service_config.md
const serviceConfig = `{
	"loadBalancingConfig": [{"round_robin": {}}],
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
	if !isRepeatable(request) {
		// gRPC cannot retry a message that it did not buffer. It still repeats an attempt that never left this machine.
		opts = append(opts, grpc.MaxRetryRPCBufferSize(0))
	}
	return wrapped(method, invoke(ctx, method, request, reply, conn, opts...))
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
