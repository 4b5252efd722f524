package taskwell

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// issued writes a self-signed certificate for localhost and its key to files.
func issued(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	written := func(name, kind string, content []byte) string {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return written("cert.pem", "CERTIFICATE", certificate), written("key.pem", "PRIVATE KEY", keyBytes)
}

// mutual returns the credentials of a server that requires client certificates of this CA.
func mutual(t *testing.T, certFile, keyFile, caFile string) grpc.ServerOption {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(content)
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
	}))
}

func TestBothSidesAreVerified(t *testing.T) {
	t.Parallel()
	serverCert, serverKey := issued(t)
	clientCert, clientKey := issued(t)
	strangerCert, strangerKey := issued(t)
	token := WithToken("a.b.c")
	for name, test := range map[string]struct {
		opts []Option
		want error
	}{
		"both known":           {[]Option{WithCA(serverCert), WithClientCertificate(clientCert, clientKey), token}, nil},
		"the server not known": {[]Option{WithCA(strangerCert), WithClientCertificate(clientCert, clientKey)}, ErrUnavailable},
		"not by the system":    {[]Option{WithTLS(nil), WithClientCertificate(clientCert, clientKey)}, ErrUnavailable},
		"the client not known": {[]Option{WithCA(serverCert), WithClientCertificate(strangerCert, strangerKey)}, ErrUnavailable},
		"no client":            {[]Option{WithCA(serverCert)}, ErrUnavailable},
		"plain text":           {nil, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := serveAs(t, mutual(t, serverCert, serverKey, clientCert), always(nil), test.opts...)
			_, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{})
			if !errors.Is(err, test.want) {
				t.Fatalf("failed with %v, not %v", err, test.want)
			}
			if err == nil && !slices.Equal(server.attempts[0].metadata.Get("authorization"), []string{"Bearer a.b.c"}) {
				t.Errorf("the token was not sent: %v", server.attempts[0].metadata)
			}
		})
	}
}

func TestARenewedClientCertificateIsUsedForTheNextConnection(t *testing.T) {
	t.Parallel()
	oldCert, oldKey := issued(t)
	newCert, newKey := issued(t)
	client, _ := serveAs(t, mutual(t, newCert, newKey, newCert), always(nil), WithCA(newCert), WithClientCertificate(oldCert, oldKey))
	for renewed, old := range map[string]string{newCert: oldCert, newKey: oldKey} {
		if err := os.Rename(renewed, old); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.GetTask(t.Context(), &taskwellv1.GetTaskRequest{}); err != nil {
		t.Error(err)
	}
}
