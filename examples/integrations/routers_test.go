package integrations

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"
	"github.com/stint-dev/stint/ui"
)

// Each router serves the page, its assets, its API and its live updates below a path, beside the app's own routes.
func TestRouters(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	for name, mount := range map[string]func(http.Handler) http.Handler{
		"net/http": func(page http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/stint/", page)
			mux.HandleFunc("GET /own", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") })
			return mux
		},
		"chi": func(page http.Handler) http.Handler {
			r := chi.NewRouter()
			r.Mount("/stint", page)
			r.Get("/own", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") })
			return r
		},
		"gin": func(page http.Handler) http.Handler {
			r := gin.New()
			r.Any("/stint/*path", gin.WrapH(page))
			r.GET("/own", func(c *gin.Context) { c.String(http.StatusOK, "own") })
			return r
		},
		"echo": func(page http.Handler) http.Handler {
			e := echo.New()
			e.Any("/stint/*", echo.WrapHandler(page))
			e.GET("/own", func(c echo.Context) error { return c.String(http.StatusOK, "own") })
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			run, err := s.confirm.Enqueue(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			token := ui.NewToken()
			server := httptest.NewServer(mount(ui.Handler(s.client, ui.WithBasePath("/stint"), ui.WithToken(token))))
			defer server.Close()
			b := &browser{t, server.URL, token}
			b.wants("GET", "/stint/", "<title>Overview")
			b.wants("GET", "/stint/runs", run.ID())
			b.wants("GET", "/stint/assets/style.css", "{")
			b.wants("GET", "/stint/api/runs/"+run.ID(), `"state":"queued"`)
			b.wants("POST", "/stint/api/runs/"+run.ID()+"/cancel", "")
			b.wants("GET", "/stint/api/runs/"+run.ID(), `"state":"canceled"`)
			b.wants("GET", "/own", "own")
			b.streams("/stint/live?url=/runs")
		})
	}
}

type browser struct {
	t          *testing.T
	url, token string
}

func (b *browser) ask(ctx context.Context, method, path string) *http.Response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res
}

func (b *browser) wants(method, path, want string) {
	b.t.Helper()
	res := b.ask(b.t.Context(), method, path)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 || !strings.Contains(string(body), want) {
		b.t.Errorf("%s %s: status %d, %v, %.300s; want %q", method, path, res.StatusCode, err, body, want)
	}
}

// streams checks that what the page sends live is not held back by the router.
func (b *browser) streams(path string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	res := b.ask(ctx, "GET", path)
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		b.t.Errorf("GET %s: status %d, %q, %v", path, res.StatusCode, line, err)
	}
}
