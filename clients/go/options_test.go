package taskwell

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptionsThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing.pem")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		opts []Option
		want string
	}{
		"no user":               {[]Option{WithUser("")}, `a user is 1 to 255 printable ASCII characters without spaces, not ""`},
		"a user with a space":   {[]Option{WithUser("a b")}, `not "a b"`},
		"a user in Greek":       {[]Option{WithUser("Ω")}, `not "Ω"`},
		"a user with a line":    {[]Option{WithUser("a\n")}, `not "a\n"`},
		"a long user":           {[]Option{WithUser(strings.Repeat("a", 256))}, "1 to 255"},
		"no token":              {[]Option{WithToken("")}, "the token is empty"},
		"a token's header":      {[]Option{WithToken("Bearer a.b.c")}, "without 'Bearer'"},
		"no source":             {[]Option{WithTokenSource(nil)}, "the token source is nil"},
		"a user and a token":    {[]Option{bob, WithToken("a.b.c")}, "exclude each other"},
		"no time":               {[]Option{WithTimeout(0)}, "must be longer than nothing, not 0s"},
		"no connection":         {[]Option{WithConnections(0)}, "1 connection or more, not 0"},
		"no CA":                 {[]Option{WithCA(missing)}, "missing.pem"},
		"an empty CA":           {[]Option{WithCA(empty)}, "there is no certificate in " + empty},
		"no client certificate": {[]Option{WithClientCertificate(missing, missing)}, "the client certificate: open " + missing},
	} {
		_, err := Dial("localhost:50051", test.opts...)
		if err == nil || !strings.HasPrefix(err.Error(), "taskwell: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Dial("localhost:50051", WithUser(strings.Repeat("~", 255))); err != nil {
		t.Error(err)
	}
}

func TestTheOptionsOfTLSAddUpInAnyOrder(t *testing.T) {
	t.Parallel()
	certificate, key := issued(t)
	config := &tls.Config{ServerName: "tasks.example"}
	opts := []Option{WithTLS(config), WithCA(certificate), WithClientCertificate(certificate, key)}
	for range opts {
		opts = append(opts[1:], opts[0])
		s, err := settingsOf(opts)
		if err != nil {
			t.Fatal(err)
		}
		if s.tls.ServerName != "tasks.example" || s.tls.RootCAs == nil || s.tls.GetClientCertificate == nil {
			t.Errorf("an option is lost: %+v", s.tls)
		}
	}
	if config.RootCAs != nil {
		t.Error("the caller's configuration was changed")
	}
}
