package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"strings"
	"testing"
)

// The page of a file is served until the command is interrupted, open pages included.
func TestUI(t *testing.T) {
	path := worked(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- runCommand(ctx, []string{"ui", "-http", "127.0.0.1:0", "-local-access", "-read-only", path}, w, io.Discard)
	}()
	url, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(url)
	defer http.DefaultClient.CloseIdleConnections()
	got, err := http.Get(url + "runs")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(got.Body)
	got.Body.Close()
	if err != nil || got.StatusCode != http.StatusOK || !strings.Contains(string(text), "read-only") {
		t.Errorf("%s %v:\n%.500s", got.Status, err, text)
	}
	live, err := http.Get(url + "live?url=/")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for addr, want := range map[string]string{"0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80", "127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80"} {
		if got := urlHost(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
			t.Errorf("what listens at %s is reached at %s, want %s", addr, got, want)
		}
	}
	if _, err := ask(t, "ui", "-http", "nowhere:port", path); err == nil {
		t.Error("an address that is none was taken")
	}
}

// Only who has the printed URL gets access.
func TestUIToken(t *testing.T) {
	path := worked(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- runCommand(ctx, []string{"ui", "-http", "127.0.0.1:0", path}, w, io.Discard) }()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	base, token, ok := strings.Cut(strings.TrimSpace(line), "?token=")
	if !ok || len(token) != 64 {
		t.Errorf("it prints %q", line)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	for _, tt := range []struct {
		url    string
		status int
	}{{base, 403}, {base + "api/runs", 403}, {base + "?token=" + token, 200}, {base + "api/runs", 200}, {base, 200}} {
		got, err := browser.Get(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		got.Body.Close()
		if got.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", tt.url, got.Status, tt.status)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
