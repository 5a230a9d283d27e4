package page

import (
	"net"
	"testing"
)

// The printed URL is one that the page answers to: it refuses a host of 0.0.0.0 or [::].
func TestHost(t *testing.T) {
	for ip, want := range map[string]string{"::": "localhost:8080", "0.0.0.0": "localhost:8080", "127.0.0.1": "127.0.0.1:8080"} {
		if got := host(&net.TCPAddr{IP: net.ParseIP(ip), Port: 8080}); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
}
