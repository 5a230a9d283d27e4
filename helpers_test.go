package stint_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/store/sqlite"
	_ "modernc.org/sqlite"
	"pgregory.net/rapid"
)

// serverURL is the URL of a PostgreSQL database on which the tests run instead of on files.
var serverURL = os.Getenv("STINT_DATABASE_URL")

// ofFile skips a test that is about a database's file, if the tests run on a server.
func ofFile(t testing.TB) {
	t.Helper()
	if serverURL != "" {
		t.Skip("is about a file: STINT_DATABASE_URL names a server")
	}
}

// schemaOf returns the name of the schema that stands for the file at path, or a new one for ":memory:".
func schemaOf(path string) string {
	if path == ":memory:" {
		path = rand.Text()
	}
	sum := sha256.Sum256([]byte(path))
	return "r_" + hex.EncodeToString(sum[:8])
}

// appTable returns the name for a table of the app's own beside those of the database at path.
func appTable(path string) string {
	if serverURL == "" {
		return "app"
	}
	return schemaOf(path) + ".app"
}

var schemas sync.Map // that were opened, and are dropped after their test

// opened opens a client on a new database, which is checked when the test ends: no
// corruption, and nothing left running.
func opened(t testing.TB, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	return openedAt(t, filepath.Join(t.TempDir(), "test.db"), opts...)
}

// openedAt is like opened, on the file at path, or on what stands for it on the server.
func openedAt(t testing.TB, path string, opts ...stint.ClientOption) *stint.Client {
	t.Helper()
	c, err := openAt(t, path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if serverURL != "" {
			checkClient(t, c)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if path != ":memory:" && serverURL == "" {
			checkFile(t, path)
		}
	})
	return c
}

// openAt opens a client that logs nothing by default, and that the caller closes.
func openAt(t testing.TB, path string, opts ...stint.ClientOption) (*stint.Client, error) {
	t.Helper()
	schema := schemaOf(path)
	if _, there := schemas.LoadOrStore(schema, true); serverURL != "" && !there {
		t.Cleanup(func() {
			schemas.Delete(schema)
			if err := postgres.Drop(context.Background(), serverURL, postgres.Options{Schema: schema}); err != nil {
				t.Error(err)
			}
		})
	}
	return openSchema(path, schema, opts...)
}

// openSchema opens a client on the file at path, or on the server's schema that stands for it.
func openSchema(path, schema string, opts ...stint.ClientOption) (*stint.Client, error) {
	opts = append([]stint.ClientOption{stint.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	if serverURL == "" {
		return stint.Open(path, opts...)
	}
	s, err := storeAt(path, schema)
	if err != nil {
		return nil, err
	}
	c, err := stint.New(s, opts...)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

// storeAt opens the file at path, or the server's schema that stands for it.
func storeAt(path, schema string) (store.Store, error) {
	if serverURL == "" {
		return sqlite.Open(path, sqlite.Options{})
	}
	return postgres.Open(context.Background(), serverURL, postgres.Options{Schema: schema})
}

// unsynced gives up that commits of a file wait for the disk. On a server it changes nothing.
func unsynced() stint.ClientOption {
	if serverURL != "" {
		return nil
	}
	return stint.WithDurability(stint.DurabilityNormal)
}

// checkClient fails the test if the client's database is damaged.
func checkClient(t testing.TB, c *stint.Client) {
	t.Helper()
	if problems, err := c.Check(context.Background()); len(problems) > 0 || err != nil && !errors.Is(err, stint.ErrClosed) {
		t.Errorf("check: %v, %v", problems, err)
	}
}

// asAnother returns one connection to a file, as another program has it. It waits for a client that writes.
func asAnother(t testing.TB, path string) *sql.DB {
	t.Helper()
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	db := must[*sql.DB](t)(sql.Open("sqlite", "file:"+escaped+"?_pragma=busy_timeout(60000)"))
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

// checkFile fails the test if the file is damaged.
func checkFile(t testing.TB, path string) {
	t.Helper()
	db := asAnother(t, path)
	defer db.Close()
	var verdict string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity_check: %q, %v", verdict, err)
	}
}

// working starts a worker, which is stopped and waited for when the test ends, or
// when the returned function is called.
func working(t testing.TB, c *stint.Client, opts ...stint.WorkerOption) (stop func()) {
	t.Helper()
	w, err := c.NewWorker(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Errorf("Worker.Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// The functions below call one method with the test's context, and end the test if that fails.

func enqueue[In, Out any](t testing.TB, task interface {
	Enqueue(context.Context, In, ...stint.RunOption) (*stint.Run[Out], error)
}, in In, opts ...stint.RunOption) *stint.Run[Out] {
	t.Helper()
	return must[*stint.Run[Out]](t)(task.Enqueue(t.Context(), in, opts...))
}

func enqueueMany[In, Out any](t testing.TB, task interface {
	EnqueueMany(context.Context, []In, ...stint.RunOption) ([]*stint.Run[Out], error)
}, ins []In, opts ...stint.RunOption) []*stint.Run[Out] {
	t.Helper()
	return must[[]*stint.Run[Out]](t)(task.EnqueueMany(t.Context(), ins, opts...))
}

func schedule[In, Out any](t testing.TB, task interface {
	Schedule(context.Context, time.Time, In, ...stint.RunOption) (*stint.Run[Out], error)
}, at time.Time, in In, opts ...stint.RunOption) *stint.Run[Out] {
	t.Helper()
	return must[*stint.Run[Out]](t)(task.Schedule(t.Context(), at, in, opts...))
}

func runTask[In, Out any](t testing.TB, task interface {
	Run(context.Context, In, ...stint.RunOption) (Out, error)
}, in In, opts ...stint.RunOption) Out {
	t.Helper()
	return must[Out](t)(task.Run(t.Context(), in, opts...))
}

func enqueueJSON(t testing.TB, c *stint.Client, task string, input json.RawMessage, opts ...stint.RunOption) *stint.Run[json.RawMessage] {
	t.Helper()
	return must[*stint.Run[json.RawMessage]](t)(c.EnqueueJSON(t.Context(), task, input, opts...))
}

func output[Out any](t testing.TB, run interface {
	Wait(context.Context) (Out, error)
}) Out {
	t.Helper()
	return must[Out](t)(run.Wait(t.Context()))
}

func infoOf(t testing.TB, run interface {
	Info(context.Context) (*stint.RunInfo, error)
}) *stint.RunInfo {
	t.Helper()
	return must[*stint.RunInfo](t)(run.Info(t.Context()))
}

func getRun(t testing.TB, c *stint.Client, id string) *stint.RunInfo {
	t.Helper()
	return must[*stint.RunInfo](t)(c.GetRun(t.Context(), id))
}

func listRuns(t testing.TB, c *stint.Client, f stint.RunFilter) *stint.RunPage {
	t.Helper()
	return must[*stint.RunPage](t)(c.ListRuns(t.Context(), f))
}

func publish(t testing.TB, c *stint.Client, key string, payload any, opts ...stint.EventOption) string {
	t.Helper()
	return must[string](t)(c.Publish(t.Context(), key, payload, opts...))
}

func beginTx(t testing.TB, db *sql.DB) *sql.Tx {
	t.Helper()
	return must[*sql.Tx](t)(db.BeginTx(t.Context(), nil))
}

// checkRandom checks a property of so many random programs, of a quarter in short runs, or of as
// many as -rapid.checks says.
func checkRandom(t *testing.T, programs int, property func(*rapid.T)) {
	t.Helper()
	if testing.Short() {
		programs /= 4
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set(strconv.Itoa(programs))
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(struct{ testing.TB }{t}, property) // a bubble's t has no subtests
}
