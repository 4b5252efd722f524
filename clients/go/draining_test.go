package taskwell

import (
	"context"
	"net"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

// atAddresses resolves the target "rolling:///tasks" to these addresses.
func atAddresses(addresses ...string) Option {
	found := manual.NewBuilderWithScheme("rolling")
	var state resolver.State
	for _, address := range addresses {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	found.InitialState(state)
	return WithDialOptions(grpc.WithResolvers(found))
}

// until waits for a condition, with a generous limit.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not become true")
		}
	}
}

func TestNoCallIsSentToAServerThatIsNotServing(t *testing.T) {
	t.Parallel()
	const service, calls = "taskwell.v1.TaskService", 20
	_, draining := serve(t, always(status.Error(codes.Unavailable, "it drains")), bob)
	_, serving := serve(t, always(nil), bob)
	dialer := func(ctx context.Context, address string) (net.Conn, error) {
		return map[string]*scripted{"draining": draining, "serving": serving}[address].listener.DialContext(ctx)
	}
	client, err := Dial("rolling:///tasks", bob, atAddresses("draining", "serving"), WithDialOptions(grpc.WithContextDialer(dialer)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })

	// Deletes are not retried, so that one that reaches the draining server fails.
	succeeds := func() bool {
		for range calls {
			if _, err := client.DeleteTask(t.Context(), &taskwellv1.DeleteTaskRequest{Id: "a"}); err != nil {
				return false
			}
		}
		return true
	}
	until(t, func() bool { return !succeeds() }) // both are in use
	draining.health.SetServingStatus(service, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	until(t, succeeds)
	if !succeeds() {
		t.Error("a call was sent to the server that drains")
	}
}
