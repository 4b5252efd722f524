package taskwell

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc/metadata"
)

// sent returns the metadata under a key of the only call that a test makes.
func sent(t *testing.T, ctx context.Context, key string, opts ...Option) []string {
	t.Helper()
	client, server := serve(t, always(nil), opts...)
	if _, err := client.GetTask(ctx, &taskwellv1.GetTaskRequest{}); err != nil {
		t.Fatal(err)
	}
	return server.attempts[0].metadata.Get(key)
}

func TestEachCallNamesItsUser(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-1")
	for name, test := range map[string]struct {
		ctx  context.Context
		opts []Option
		want []string
	}{
		"as dialled":           {ctx, []Option{bob}, []string{"bob"}},
		"with other metadata":  {traced, []Option{bob}, []string{"bob"}},
		"as the call says":     {AsUser(ctx, "alice"), []Option{bob}, []string{"alice"}},
		"as said last":         {AsUser(AsUser(ctx, "eve"), "alice"), nil, []string{"alice"}},
		"in gRPC's own manner": {metadata.AppendToOutgoingContext(ctx, userKey, "alice"), []Option{bob}, []string{"alice"}},
		"or nobody":            {ctx, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if users := sent(t, test.ctx, userKey, test.opts...); !slices.Equal(users, test.want) {
				t.Errorf("named %v, not %v", users, test.want)
			}
		})
	}
	if got := sent(t, AsUser(traced, "alice"), "traceparent"); !slices.Equal(got, []string{"00-1"}) {
		t.Errorf("AsUser lost other metadata: %v", got)
	}
	if named, _ := metadata.FromOutgoingContext(traced); len(named.Get(userKey)) > 0 {
		t.Errorf("AsUser changed the context it was given: %v", named)
	}
}

func TestATokenIsSentWithEachCall(t *testing.T) {
	t.Parallel()
	if got := sent(t, t.Context(), "authorization", WithToken("a.b.c")); !slices.Equal(got, []string{"Bearer a.b.c"}) {
		t.Errorf("sent %v", got)
	}
}

func TestATokenSourceIsAskedBeforeEachAttempt(t *testing.T) {
	t.Parallel()
	tokens := []string{"first", "second", "third", "fourth"}
	type key struct{}
	next := 0
	source := func(ctx context.Context) (string, error) {
		if ctx.Value(key{}) != "of the call" {
			t.Error("asked with another context than the call's")
		}
		next++
		return tokens[next-1], nil
	}
	client, server := serve(t, always(unavailable), WithTokenSource(source))
	client.GetTask(context.WithValue(t.Context(), key{}, "of the call"), &taskwellv1.GetTaskRequest{})
	var received []string
	for _, attempt := range server.attempts {
		received = append(received, strings.TrimPrefix(attempt.metadata.Get("authorization")[0], "Bearer "))
	}
	if !slices.Equal(received, tokens) {
		t.Errorf("received %v", received)
	}
}

func TestACallWithoutATokenIsNotSent(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]TokenSource{
		"the issuer is away": func(context.Context) (string, error) { return "", errors.New("the issuer is away") },
		"the token is empty": func(context.Context) (string, error) { return "", nil },
		"without 'Bearer'":   func(context.Context) (string, error) { return "Bearer secret", nil },
		"and line ends":      func(context.Context) (string, error) { return "secret\n", nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := serve(t, always(nil), WithTokenSource(source))
			_, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
			if !errors.Is(err, ErrUnauthenticated) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
				t.Errorf("failed with %v", err)
			}
			if len(server.attempts) > 0 {
				t.Error("the server was asked")
			}
		})
	}
}

func TestATokenIsNotSentInPlainTextToOtherMachines(t *testing.T) {
	t.Parallel()
	token := WithToken("a.b.c")
	for target, local := range map[string]bool{
		"localhost:50051":                     true,
		"localhost":                           true,
		"127.0.0.1:50051":                     true,
		"127.8.8.8:50051":                     true,
		"[::1]:50051":                         true,
		"[::1]":                               true,
		"dns:///localhost:50051":              true,
		"dns:localhost:50051":                 true,
		"dns://8.8.8.8/127.0.0.1:50051":       true,
		"passthrough:///[::1]:50051":          true,
		"unix:taskwell.sock":                  true,
		"unix:///run/taskwell.sock":           true,
		"unix-abstract:taskwell":              true,
		"tasks.example:50051":                 false,
		"tasks.example":                       false,
		"10.0.0.1:50051":                      false,
		"0.0.0.0:50051":                       false,
		"[fd00::1]:50051":                     false,
		"dns:///tasks.example:50051":          false,
		"dns://localhost/tasks.example:50051": false,
		"localhost.tasks.example:50051":       false,
		"127.0.0.1.tasks.example:50051":       false,
		"passthrough:///tasks.example:50051":  false,
		"xds:///localhost":                    false,
	} {
		_, err := Dial(target, token)
		if refused := err != nil; refused == local {
			t.Errorf("%s: %v", target, err)
		}
		if !local && !strings.Contains(err.Error(), "WithTLS") {
			t.Errorf("%s: does not say what to do: %v", target, err)
		}
	}
	for name, opt := range map[string]Option{"TLS": WithTLS(nil), "told so": WithPlaintextToken()} {
		if _, err := Dial("tasks.example:50051", token, opt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
