package taskwell

import (
	"context"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// serviceConfig spreads calls over all addresses of the service, and sends again what it could not take after about 0.1, 0.3
// and 0.9 s. A failed attempt takes a token, a call that succeeds brings a fifth of one; while half of them are gone, nothing
// is sent again. https://github.com/grpc/grpc/blob/master/doc/service_config.md
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

// intercept sees every call once, before gRPC makes attempts of it.
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
		// What is not buffered cannot be sent again; an attempt that found no connection is still made anew.
		opts = append(opts, grpc.MaxRetryRPCBufferSize(0))
	}
	return wrapped(method, invoke(ctx, method, request, reply, conn, opts...))
}

// withRequestID answers the request with a request_id; the caller's own is not changed.
func withRequestID(request *taskwellv1.CreateTaskRequest) *taskwellv1.CreateTaskRequest {
	if request.GetRequestId() != "" {
		return request
	}
	identified := &taskwellv1.CreateTaskRequest{}
	proto.Merge(identified, request)
	identified.RequestId = uuid.NewString()
	return identified
}

// isRepeatable tells whether a request that has taken effect can be sent again and is answered as if it had not: its own
// first attempt makes an etag stale and a task missing. What is not known here is not.
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
