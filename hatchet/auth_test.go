package hatchet_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

func TestTokenClaims(t *testing.T) {
	g := serve(t, hatchet.Options{})
	parts := strings.Split(g.token, ".")
	if len(parts) != 3 || !strings.HasPrefix(g.token, "ey") {
		t.Fatalf("token is %s: want three parts, the first of which begins with ey", g.token)
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Sub       string  `json:"sub"`
		ServerURL string  `json:"server_url"`
		Address   string  `json:"grpc_broadcast_address"`
		Exp       float64 `json:"exp"`
	}
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatal(err)
	}
	if len(claims.Sub) != 36 || claims.ServerURL != "http://"+g.address || claims.Address != g.address ||
		int64(claims.Exp) < time.Now().Unix() {
		t.Errorf("claims are %+v", claims)
	}
}

// Without a valid token nothing is served, by gRPC or REST, and a valid one passes.
func TestAuth(t *testing.T) {
	g := serve(t, hatchet.Options{})
	other := serve(t, hatchet.Options{})
	expired := serve(t, hatchet.Options{TokenLife: time.Nanosecond})
	parts := strings.Split(g.token, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, c := range map[string]struct {
		g     *gateway
		token string
		code  codes.Code
		http  int
	}{
		"valid": {g, g.token, codes.OK, http.StatusNotFound}, "missing": {g, "", codes.Unauthenticated, 401},
		"of another server": {g, other.token, codes.Unauthenticated, 401}, "expired": {expired, expired.token, codes.Unauthenticated, 401},
		"unsigned":       {g, parts[0] + "." + parts[1] + ".", codes.Unauthenticated, 401},
		"algorithm none": {g, none + "." + parts[1] + ".", codes.Unauthenticated, 401},
		"other claims":   {g, parts[0] + "." + strings.Split(other.token, ".")[1] + "." + parts[2], codes.Unauthenticated, 401},
		"not a token":    {g, "secret", codes.Unauthenticated, 401},
	} {
		t.Run(name, func(t *testing.T) {
			k := c.g.dial(c.token)
			_, err := k.GetVersion(t.Context(), &wire.GetVersionRequest{})
			wantCode(t, err, c.code, "")
			stream, err := k.SubscribeToWorkflowRuns(t.Context())
			if err == nil {
				_, err = stream.Header()
			}
			if c.code != codes.OK && err == nil {
				_, err = stream.Recv()
			}
			wantCode(t, err, c.code, "")
			c.g.rest("GET", "/api/v1/stable/workflow-runs/00000000-0000-7000-8000-000000000000/status", c.token, "", c.http, nil)
		})
	}
	g.rest("GET", "/api/v1/version", "", "", 200, nil)
	g.rest("GET", "/api/v1/nothing", g.token, "", 501, nil)
}

// A revoked token is refused, and a new one passes.
func TestRevoke(t *testing.T) {
	g := serve(t, hatchet.Options{})
	if err := g.s.RevokeTokens(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := g.dial(g.token).GetVersion(t.Context(), &wire.GetVersionRequest{})
	wantCode(t, err, codes.Unauthenticated, "revoked")
	v := must[*wire.GetVersionResponse](t)(g.dial(must[string](t)(g.s.Token())).GetVersion(t.Context(), &wire.GetVersionRequest{}))
	if v.Version != "v0.105.0" {
		t.Errorf("version is %s", v.Version)
	}
}

// Methods that are not served say why.
func TestUnserved(t *testing.T) {
	g := serve(t, hatchet.Options{})
	conn := g.dial(g.token).conn
	for method, why := range map[string]string{"/Dispatcher/Listen": "update the SDK", "/WorkflowService/PutWorkflow": "before v1",
		"/Strange/Method": "stint does not serve it"} {
		err := conn.Invoke(metadata.AppendToOutgoingContext(t.Context()), method, &wire.GetVersionRequest{}, &wire.GetVersionResponse{})
		wantCode(t, err, codes.Unimplemented, why)
	}
	for path, why := range map[string]string{"/api/v1/strange": "does not serve it"} {
		if text := g.rest("GET", path, g.token, "", 501, nil); !strings.Contains(text, why) {
			t.Errorf("%s: %s", path, text)
		}
	}
}
