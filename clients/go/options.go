package taskwell

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
)

// DefaultTimeout is how long a call may take, with all its retries, if its context has no deadline and [WithTimeout] says
// nothing else.
const DefaultTimeout = 10 * time.Second

// An Option of [Dial].
type Option func(*settings) error

type settings struct {
	user           string
	token          TokenSource
	plaintextToken bool
	tls            *tls.Config // nil for plain text
	timeout        time.Duration
	connections    int
	dial           []grpc.DialOption
}

func settingsOf(opts []Option) (*settings, error) {
	s := &settings{timeout: DefaultTimeout, connections: 1}
	for _, opt := range opts {
		if err := opt(s); err != nil {
			return nil, err
		}
	}
	if s.user != "" && s.token != nil {
		return nil, errors.New("WithUser and a token exclude each other: a server that takes tokens reads the user from them")
	}
	return s, nil
}

// WithUser makes every call on behalf of this user, for a server that takes the user from call metadata (x-user-id):
// 1 to 255 printable ASCII characters without spaces. [AsUser] names another for a single call.
func WithUser(user string) Option {
	return func(s *settings) error {
		if len(user) > 255 || !isPrintable(user) {
			return fmt.Errorf("a user is 1 to 255 printable ASCII characters without spaces, not %q", user)
		}
		s.user = user
		return nil
	}
}

// WithToken sends this JSON Web Token with every call. Tokens expire: a program that outlives one needs
// [WithTokenSource].
func WithToken(token string) Option {
	return func(s *settings) error {
		if err := checkToken(token); err != nil {
			return err
		}
		s.token = func(context.Context) (string, error) { return token, nil }
		return nil
	}
}

// WithTokenSource sends the JSON Web Token that source answers. It is asked before every call and every retry, by many
// goroutines at once and with the call's context: it should keep a token for as long as it is valid.
func WithTokenSource(source TokenSource) Option {
	return func(s *settings) error {
		if source == nil {
			return errors.New("the token source is nil")
		}
		s.token = source
		return nil
	}
}

// WithPlaintextToken allows a token to be sent without TLS to another machine, where everybody on the way can read and use
// it. Towards this machine that is always allowed.
func WithPlaintextToken() Option {
	return func(s *settings) error {
		s.plaintextToken = true
		return nil
	}
}

// WithTLS uses TLS. The configuration may be nil: then the server is verified by the roots of the system.
// [WithCA] and [WithClientCertificate] add to it.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		added := s.tlsConfig()
		if config == nil {
			return nil
		}
		s.tls = config.Clone()
		if added.RootCAs != nil {
			s.tls.RootCAs = added.RootCAs
		}
		if added.GetClientCertificate != nil {
			s.tls.GetClientCertificate = added.GetClientCertificate
		}
		return nil
	}
}

// WithCA uses TLS and verifies the server by the CA certificates in this PEM file, not by the roots of the system.
func WithCA(file string) Option {
	return func(s *settings) error {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("the CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("the CA: there is no certificate in %s: give a PEM file", file)
		}
		s.tlsConfig().RootCAs = roots
		return nil
	}
}

// WithClientCertificate uses TLS and shows this certificate to a server that asks for one (mutual TLS). Both are PEM files;
// they are read again for each new connection, so that a renewed certificate is used without a restart.
func WithClientCertificate(certFile, keyFile string) Option {
	return func(s *settings) error {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return nil, fmt.Errorf("the client certificate: %w", err)
			}
			return &certificate, nil
		}
		s.tlsConfig().GetClientCertificate = load
		_, err := load(nil)
		return err
	}
}

// tlsConfig is the configuration to add to; from now on there is one.
func (s *settings) tlsConfig() *tls.Config {
	if s.tls == nil {
		s.tls = &tls.Config{}
	}
	return s.tls
}

// WithTimeout sets how long a call may take, with all its retries, if its context has no deadline, in place of
// [DefaultTimeout].
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout <= 0 {
			return fmt.Errorf("the timeout must be longer than nothing, not %v", timeout)
		}
		s.timeout = timeout
		return nil
	}
}

// WithConnections opens so many connections to each address of the service and takes them in turn. One reaches one worker of
// the service, which is one core: a client that is to use them all has two or three for each.
func WithConnections(number int) Option {
	return func(s *settings) error {
		if number < 1 {
			return fmt.Errorf("there must be 1 connection or more, not %d", number)
		}
		s.connections = number
		return nil
	}
}

// WithDialOptions adds options of gRPC, for example a stats handler. They come after those of this package; interceptors
// are run inside of its own, and see calls as they are sent.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.dial = append(s.dial, opts...)
		return nil
	}
}
