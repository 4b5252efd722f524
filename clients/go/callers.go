package taskwell

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const userKey = "x-user-id"

// AsUser returns a context whose calls are made as this user, in place of the one of [WithUser]: for a gateway that acts
// for many users. Only a server that takes the user from call metadata reads it.
func AsUser(ctx context.Context, user string) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx) // a copy
	if sent == nil {
		sent = metadata.MD{}
	}
	sent.Set(userKey, user)
	return metadata.NewOutgoingContext(ctx, sent)
}

// withUser is AsUser, unless the context names a user already.
func withUser(ctx context.Context, user string) context.Context {
	sent, _ := metadata.FromOutgoingContext(ctx)
	if user == "" || len(sent.Get(userKey)) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, userKey, user)
}

// A TokenSource returns the JSON Web Token to send with a call, without "Bearer".
type TokenSource func(context.Context) (string, error)

// bearer implements the credentials that gRPC asks for a token before each attempt of a call.
type bearer struct {
	source   TokenSource
	needsTLS bool
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err == nil {
		err = checkToken(token)
	}
	if _, isStatus := status.FromError(err); !isStatus {
		return nil, status.Errorf(codes.Unauthenticated, "there is no token for the call: %v", err)
	}
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool {
	return b.needsTLS
}

func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("the token is empty")
	case !isPrintable(token): // the message does not show it, because it may be a secret
		return errors.New("the token has characters that no token has: give it without 'Bearer', spaces and line ends")
	}
	return nil
}

// isPrintable reports whether text is not empty and has only printable ASCII characters other than spaces.
func isPrintable(text string) bool {
	return text != "" && strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// isLocal reports whether a gRPC target is certainly on this machine.
func isLocal(target string) bool {
	scheme, rest, _ := strings.Cut(target, ":")
	switch scheme {
	case "unix", "unix-abstract":
		return true
	case "dns", "passthrough":
		target = rest[strings.LastIndex(rest, "/")+1:] // after the authority: dns://8.8.8.8/localhost:50051
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = strings.Trim(target, "[]") // without a port
	}
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
