package taskwell

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/emptypb"
)

// inMemory is the target of a scripted server. It counts as this machine, so that tokens may be sent to it.
const inMemory = "passthrough:///localhost"

var bob = WithUser("bob")

// attempt is one attempt of a call as the server saw it.
type attempt struct {
	request  proto.Message
	metadata metadata.MD
	ctx      context.Context
}

// scripted is a server that follows a script in place of a service.
type scripted struct {
	mu       sync.Mutex
	attempts []attempt
	dialled  int
	refusals int // connections to refuse before one is accepted
	answer   answerer
	health   *health.Server
	listener *bufconn.Listener
}

// answerer returns the response to an attempt; attempts are numbered from 1.
type answerer func(number int, request proto.Message) (proto.Message, error)

// serve returns a client of a server with this script.
func serve(t *testing.T, answer answerer, opts ...Option) (*Client, *scripted) {
	t.Helper()
	return serveAs(t, grpc.EmptyServerOption{}, answer, opts...)
}

// serveAs is serve with options of the server.
func serveAs(t *testing.T, as grpc.ServerOption, answer answerer, opts ...Option) (*Client, *scripted) {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	script := &scripted{answer: answer, health: health.NewServer(), listener: listener}
	server := grpc.NewServer(as, grpc.UnaryInterceptor(script.intercept))
	taskwellv1.RegisterTaskServiceServer(server, taskwellv1.UnimplementedTaskServiceServer{})
	script.health.SetServingStatus(taskwellv1.TaskService_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, script.health)
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	dialer := func(ctx context.Context, _ string) (net.Conn, error) {
		script.mu.Lock()
		defer script.mu.Unlock()
		script.dialled++
		if script.dialled <= script.refusals {
			return nil, errors.New("nobody listens")
		}
		return listener.DialContext(ctx)
	}
	client, err := Dial(inMemory, append(opts, WithDialOptions(grpc.WithContextDialer(dialer)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, script
}

func (s *scripted) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
	received, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.attempts = append(s.attempts, attempt{request.(proto.Message), received, ctx})
	number := len(s.attempts)
	s.mu.Unlock()
	return s.answer(number, request.(proto.Message))
}

// always answers every attempt with an empty response of its method, or with this error.
func always(err error) answerer {
	return func(_ int, request proto.Message) (proto.Message, error) {
		if err != nil {
			return nil, err
		}
		switch request.(type) {
		case *taskwellv1.ListTasksRequest:
			return &taskwellv1.ListTasksResponse{}, nil
		case *taskwellv1.DeleteTaskRequest:
			return &emptypb.Empty{}, nil
		}
		return &taskwellv1.Task{}, nil
	}
}

// refusal returns an error of the service with these details.
func refusal(t *testing.T, code codes.Code, details ...protoadapt.MessageV1) error {
	t.Helper()
	detailed, err := status.New(code, "What happened.").WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return detailed.Err()
}
