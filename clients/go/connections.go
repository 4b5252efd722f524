package taskwell

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// keepaliveParameters stay within the service's limit: a keepalive ping every 10 s, with and without calls in flight. They
// also bound how long sent data may stay unacknowledged, so that a call on a dead connection can be retried in time.
var keepaliveParameters = keepalive.ClientParameters{
	Time:                30 * time.Second,
	Timeout:             5 * time.Second,
	PermitWithoutStream: true,
}

// connectParameters reconnect within a second after an outage or a restart; gRPC's own maximum is two minutes.
var connectParameters = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 20 * time.Second,
}

// connect makes the connections to a target. They are opened with the first call.
func (s *settings) connect(target string) (*inTurn, error) {
	options, err := s.dialOptions(target)
	if err != nil {
		return nil, err
	}
	conns := &inTurn{}
	for range s.connections {
		conn, err := grpc.NewClient(target, options...)
		if err != nil {
			return nil, errors.Join(err, conns.close())
		}
		conns.all = append(conns.all, conn)
	}
	return conns, nil
}

func (s *settings) dialOptions(target string) ([]grpc.DialOption, error) {
	transport := insecure.NewCredentials()
	if s.tls != nil {
		transport = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // one from DNS could retry calls that must not be repeated
		grpc.WithKeepaliveParams(keepaliveParameters),
		grpc.WithConnectParams(connectParameters),
		grpc.WithUserAgent("taskwell-go"),
		grpc.WithChainUnaryInterceptor(s.intercept),
	}
	if s.token != nil {
		if s.tls == nil && !s.plaintextToken && !isLocal(target) {
			return nil, fmt.Errorf("a token on its way to %s could be read, and used, by others: use WithTLS or WithCA, "+
				"or WithPlaintextToken if the way is safe by other means", target)
		}
		// For calls, and not for the connection, which would ask for a token to watch the server's health as well.
		options = append(options, grpc.WithDefaultCallOptions(grpc.PerRPCCredentials(bearer{s.token, s.tls != nil})))
	}
	return append(options, s.dial...), nil
}

// inTurn is several connections behind the interface of one: calls take them in turn.
type inTurn struct {
	all  []*grpc.ClientConn
	last atomic.Uint64
}

func (t *inTurn) next() *grpc.ClientConn {
	return t.all[t.last.Add(1)%uint64(len(t.all))]
}

func (t *inTurn) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	return t.next().Invoke(ctx, method, request, reply, opts...)
}

func (t *inTurn) NewStream(
	ctx context.Context, description *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return t.next().NewStream(ctx, description, method, opts...)
}

func (t *inTurn) close() error {
	var failed error
	for _, conn := range t.all {
		failed = errors.Join(failed, conn.Close())
	}
	return failed
}
