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

// DefaultTimeout is the timeout of a call with all its retries, if its context has no deadline and there is no [WithTimeout].
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

// WithUser makes every call as this user, for a server that takes the user from call metadata (x-user-id): 1 to 255
// printable ASCII characters without spaces. [AsUser] names another user for a single call.
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

// WithTokenSource sends the JSON Web Token that source returns. It is called before every call and every retry, by many
// goroutines at once and with the call's context: it should cache the token until that expires.
func WithTokenSource(source TokenSource) Option {
	return func(s *settings) error {
		if source == nil {
			return errors.New("the token source is nil")
		}
		s.token = source
		return nil
	}
}

// WithPlaintextToken allows a token to be sent without TLS to another machine, although anyone on the way can read and use
// it. To this machine that is always allowed.
func WithPlaintextToken() Option {
	return func(s *settings) error {
		s.plaintextToken = true
		return nil
	}
}

// WithTLS uses TLS. With a nil configuration, the server is verified against the system's root CAs.
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

// WithCA uses TLS and verifies the server against the CA certificates in this PEM file, not the system's root CAs.
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

// WithClientCertificate uses TLS and presents this certificate to a server that asks for one (mutual TLS). Both are PEM
// files; they are read again for each new connection, so that a renewed certificate is used without a restart.
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

// tlsConfig returns the TLS configuration, and makes one if there is none.
func (s *settings) tlsConfig() *tls.Config {
	if s.tls == nil {
		s.tls = &tls.Config{}
	}
	return s.tls
}

// WithTimeout sets the timeout of a call with all its retries, if its context has no deadline. The default is
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

// WithConnections sets the number of connections to each address of the service; calls take them in turn. One connection
// reaches one worker of the service, which uses one core: to use all of them, open two or three for each.
func WithConnections(number int) Option {
	return func(s *settings) error {
		if number < 1 {
			return fmt.Errorf("there must be 1 connection or more, not %d", number)
		}
		s.connections = number
		return nil
	}
}

// WithDialOptions adds gRPC dial options, for example a stats handler. They come after those of this package; interceptors
// run inside this package's own, and see calls as they are sent.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.dial = append(s.dial, opts...)
		return nil
	}
}
