package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

// asCommand makes a process of the test's program the command.
const asCommand = "STINT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A command is a run of the command that serves.
type command struct {
	t       *testing.T
	env     map[string]string
	comment map[string]string // "page", "serving SDKs at"
	end     func() error
}

// start runs the command until it serves.
func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), w, io.Discard)
		w.CloseWithError(fmt.Errorf("the command has ended: %w", err))
		done <- err
	}()
	c := &command{t: t, end: func() error { cancel(); return <-done }}
	c.read(r)
	return c
}

// read reads what the command prints.
func (c *command) read(r io.Reader) {
	c.t.Helper()
	c.env, c.comment = map[string]string{}, map[string]string{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "="); ok && strings.HasPrefix(line, "export ") {
			c.env[name] = value
		} else if at, ok := strings.CutPrefix(line, "# serving SDKs at "); ok {
			c.comment["at"] = at
			return
		} else if page, ok := strings.CutPrefix(line, "# page: "); ok {
			c.comment["page"] = page
		} else {
			c.t.Errorf("line %q", line)
		}
	}
	c.t.Fatal(lines.Err())
}

// status returns the status of a call of REST that needs a token.
func (c *command) status(client *http.Client, scheme, token string) int {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "GET", scheme+"://"+c.comment["at"]+
		"/api/v1/stable/workflow-runs/00000000-0000-4000-8000-000000000000/status", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	return resp.StatusCode
}

// The command prints the environment of SDKs and the page's address, serves both, and leaves a file that others may open.
func TestCommand(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	c := start(t, "-db", db)
	if len(c.env) != 2 || !strings.HasPrefix(c.env["HATCHET_CLIENT_TOKEN"], "ey") || c.env["HATCHET_CLIENT_TLS_STRATEGY"] != "none" {
		t.Errorf("environment is %v", c.env)
	}
	if got := c.status(http.DefaultClient, "http", c.env["HATCHET_CLIENT_TOKEN"]); got != 404 {
		t.Errorf("status %d with the token", got)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(c.comment["page"])
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	browser.CloseIdleConnections()
	if resp.StatusCode != 200 {
		t.Errorf("status of the page is %d", resp.StatusCode)
	}
	if err := c.end(); err != nil {
		t.Errorf("the command ended with %v", err)
	}
	client, err := stint.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// -revoke makes the tokens before invalid; without it they stay valid for the next server. -quiet prints none.
func TestRevokeFlag(t *testing.T) {
	db := filepath.Join(t.TempDir(), "app.db")
	tokens := make([]string, 3)
	for i, args := range [][]string{nil, {"-no-page"}, {"-no-page", "-revoke"}} {
		c := start(t, append([]string{"-db", db}, args...)...)
		tokens[i] = c.env["HATCHET_CLIENT_TOKEN"]
		want := [][]int{{404}, {404, 404}, {401, 401, 404}}[i]
		for j, status := range want {
			if got := c.status(http.DefaultClient, "http", tokens[j]); got != status {
				t.Errorf("server %d: status %d with token %d, want %d", i, got, j, status)
			}
		}
		if err := c.end(); err != nil {
			t.Error(err)
		}
	}
	c := start(t, "-db", db, "-quiet", "-no-page")
	if len(c.env) != 0 || c.comment["page"] != "" {
		t.Errorf("quiet: %v, page %q", c.env, c.comment["page"])
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// What cannot be served is an error that says what is wanted.
func TestBadFlags(t *testing.T) {
	t.Setenv("STINT_DATABASE_URL", "")
	dir := t.TempDir()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for want, args := range map[string][]string{
		"set -db":                 {},
		`unknown argument "more"`: {"-db", filepath.Join(dir, "a.db"), "more"},
		"both -tls-cert and":      {"-db", filepath.Join(dir, "b.db"), "-tls-cert", "c.pem"},
		"no such file":            {"-db", filepath.Join(dir, "c.db"), "-tls-cert", filepath.Join(dir, "c.pem"), "-tls-key", filepath.Join(dir, "c.key")},
		"address already in use":  {"-db", filepath.Join(dir, "d.db"), "-addr", used.Addr().String()},
		"MaxMessage":              {"-db", filepath.Join(dir, "e.db"), "-addr", "127.0.0.1:0", "-max-message", "1000000000"},
		"not defined":             {"-strange"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error is %v, want %q", args, err, want)
		}
	}
}

// With a certificate gRPC and REST are encrypted, and nothing is served otherwise.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	roots := certify(t, dir)
	c := start(t, "-db", filepath.Join(dir, "app.db"), "-tls-cert", filepath.Join(dir, "cert.pem"), "-tls-key", filepath.Join(dir, "key.pem"))
	token := c.env["HATCHET_CLIENT_TOKEN"]
	if len(c.env) != 1 || !strings.HasPrefix(c.comment["page"], "https://") {
		t.Errorf("environment is %v, the page at %s", c.env, c.comment["page"])
	}
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if got := c.status(secure, "https", token); got != 404 {
		t.Errorf("status %d with the token", got)
	}
	if got := c.status(http.DefaultClient, "http", token); got != 400 {
		t.Errorf("status %d without encryption", got)
	}
	for _, trusted := range []*x509.CertPool{roots, x509.NewCertPool()} {
		conn, err := grpc.NewClient("passthrough:///"+c.comment["at"], grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: trusted})))
		if err != nil {
			t.Fatal(err)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		var v wire.GetVersionResponse
		err = conn.Invoke(ctx, "/Dispatcher/GetVersion", &wire.GetVersionRequest{}, &v)
		want := codes.OK
		if trusted != roots {
			want = codes.Unavailable
		}
		if status.Code(err) != want {
			t.Errorf("GetVersion: %v, want %v", err, want)
		}
		conn.Close()
	}
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

// certify writes a key and a certificate for 127.0.0.1 by an authority of its own, and returns that.
func certify(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	sign := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, signer = template, key
		}
		body, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(body)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key, body
	}
	until := time.Now().Add(time.Hour)
	authority, authorityKey, _ := sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	_, key, body := sign(&x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}},
		authority, authorityKey)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: body}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return roots
}

// A process that gets SIGTERM ends with success, and says nothing.
func TestTerminate(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-db", filepath.Join(t.TempDir(), "app.db"), "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asCommand+"=1")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	(&command{t: t}).read(out)
	t.Logf("it serves after %v", time.Since(began))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || errs.Len() > 0 {
		t.Errorf("the command ended with %v and said %q", err, errs.String())
	}
}

// Which version is installed is asked without a database.
func TestVersion(t *testing.T) {
	t.Setenv("STINT_DATABASE_URL", "")
	var out strings.Builder
	if err := run(t.Context(), []string{"-version"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "stint-hatchet ") || !strings.Contains(out.String(), runtime.Version()) {
		t.Errorf("printed %q", out.String())
	}
}

// A release says its own version: the linker sets it, because the main module stands in the folder above.
func TestVersionOfRelease(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "stint-hatchet")
	const flag = "-X github.com/stint-dev/stint/internal/build.release=v9.8.7"
	if out, err := exec.Command("go", "build", "-ldflags", flag, "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(bin, "-version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "stint-hatchet v9.8.7, ") {
		t.Errorf("%v, %s", err, out)
	}
}
