package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stint-dev/stint/internal/pause"
	"github.com/stint-dev/stint/store"
)

// refusing returns the URL of a server that refuses every login with an error.
func refusing(t *testing.T, code, message string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := pgproto3.NewBackend(c, c)
			b.ReceiveStartupMessage()
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
			b.Flush()
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "postgres://u@" + l.Addr().String() + "/d?sslmode=disable"
}

// role makes a role with these options, and returns a function that executes statements as the owner of a schema, in
// which ROLE_NAME and SCHEMA_NAME stand for the names, and the role's URL.
func role(t *testing.T, s *settings, options string) (exec func(string), as string) {
	t.Helper()
	owner, name := dial(t, s), "r_"+randomHex()
	exec = func(statement string) {
		t.Helper()
		if _, err := owner.Exec(context.Background(), strings.NewReplacer("ROLE_NAME", name, "SCHEMA_NAME", s.Schema).Replace(statement)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	exec("CREATE ROLE ROLE_NAME LOGIN PASSWORD 'x' " + options)
	t.Cleanup(func() { exec("DROP OWNED BY ROLE_NAME; DROP ROLE ROLE_NAME") })
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "x")
	return exec, u.String()
}

// Open refuses what cannot work with an error that a program can tell apart, and that says what to do.
func TestOpenSaysWhatToDo(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close() // nothing listens there now
	few, newer, bare, rights := newTables(t), newTables(t), noTables(t), newTables(t)
	_, fewURL := role(t, few, "CONNECTION LIMIT 3")
	_, bareURL := role(t, bare, "")
	_, rightsURL := role(t, rights, "")
	_, newerURL := role(t, newer, "SUPERUSER")
	if _, err := dial(t, newer).Exec(t.Context(), newer.sql("UPDATE stint.schema_version SET version = 99, oldest = 99")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		opts      Options
		is        error
		says      string
	}{
		{"no server", "postgres://u@" + closed.Addr().String() + "/d", Options{}, store.ErrUnavailable, "is the server running"},
		{"wrong password", refusing(t, "28P01", "password authentication failed"), Options{}, ErrAccess, "check the password"},
		{"unknown user", refusing(t, "28000", "role does not exist"), Options{}, ErrAccess, "check the user"},
		{"no connection left", refusing(t, "53300", "too many clients"), Options{}, store.ErrUnavailable, "raise max_connections"},
		{"unknown database", refusing(t, "3D000", "database does not exist"), Options{}, ErrServer, "create it"},
		{"few connections", fewURL, few.Options, ErrServer, "raise the role's CONNECTION LIMIT"},
		{"no tables, and no right to make them", bareURL, bare.Options, ErrNoTables, "stint migrate URL"},
		{"no right to read the tables", rightsURL, rights.Options, ErrAccess, "grant this role USAGE"},
		{"a newer program's tables", newerURL, newer.Options, ErrNewer, "upgrade the program"},
		{"a direct way that is none", serverURL(t), Options{Direct: refusing(t, "28P01", "password authentication failed")}, ErrAccess, "Options.Direct"},
	} {
		s, err := Open(t.Context(), c.url, c.opts)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v; want %q, and %q", c.name, err, c.is, c.says)
		}
	}
}

// A server that cannot keep what the store promises is refused, unless the options ask for less.
func TestServersThatAreRefused(t *testing.T) {
	good := server{version: MinVersion, encoding: "UTF8", fsync: true, wholePages: true}
	for _, c := range []struct {
		name   string
		change func(*server)
		opts   Options
		says   string // "": it is taken
	}{
		{"good", func(*server) {}, Options{}, ""},
		{"old", func(v *server) { v.version = MinVersion - 1 }, Options{}, "upgrade the server"},
		{"old, to read", func(v *server) { v.version = MinVersion - 1 }, Options{ReadOnly: true}, "upgrade the server"},
		{"Latin 1", func(v *server) { v.encoding = "LATIN1" }, Options{}, "ENCODING 'UTF8'"},
		{"standby", func(v *server) { v.standby = true }, Options{}, "name the primary"},
		{"standby, to read", func(v *server) { v.standby = true }, Options{ReadOnly: true}, ""},
		{"fsync off", func(v *server) { v.fsync = false }, Options{}, "fsync"},
		{"full_page_writes off", func(v *server) { v.wholePages = false }, Options{}, "full_page_writes"},
		{"fsync off, with Normal", func(v *server) { v.fsync = false }, Options{Normal: true}, ""},
	} {
		v := good
		c.change(&v)
		err := (&settings{Options: c.opts}).judge(&v)
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrServer) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %q", c.name, err, c.says)
		}
	}
}

// A server that goes away is waited for: Healthy says so, calls change nothing and say that they may be repeated, and
// once it is back all works.
func TestServerComesBack(t *testing.T) {
	set := newTables(t)
	p, through := newProxy(t, set)
	s, err := open(t.Context(), through)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := withinMinutes(t)
	run := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}
	enqueue := func(ctx context.Context) error {
		_, err := s.Enqueue(ctx, s.Now(), run)
		return err
	}
	if err := enqueue(ctx); err != nil {
		t.Fatal(err)
	}
	p.refuse(true)
	first := make(chan error, 1)
	go func() { first <- enqueue(ctx) }() // it may have been sent: then it waits for the answer
	for s.Healthy() == nil {
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		if err := enqueue(short); err == nil {
			t.Error("enqueued without a server")
		}
		cancel()
	}
	if err := s.Healthy(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Healthy: %v; want ErrUnavailable", err)
	}
	p.refuse(false)
	want := 1
	if err := receive(t, first); err == nil {
		want++
	} else if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the call that was cut off: %v; want ErrUnavailable", err)
	}
	for err := s.Healthy(); err != nil; err = s.Healthy() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("Healthy does not say that the server is back: %v", err)
		}
	}
	if err := enqueue(ctx); err != nil {
		t.Errorf("enqueue with the server back: %v", err)
	}
	for n := 0; n <= want; {
		got, err := s.Claim(ctx, any1(10))
		if err != nil || n+len(got) > want+1 {
			t.Fatalf("claimed %d and %d, %v; want %d", n, len(got), err, want+1)
		}
		n += len(got)
	}
}

// Close ends while the server is away, whatever the store has to do: something is due, or a commit was sent whose answer
// has not come. What is due is tried with pauses.
func TestCloseWithoutServer(t *testing.T) {
	for _, c := range []struct {
		name   string
		during func(t *testing.T, s *Store, p *proxy)
	}{
		{"something is due", func(t *testing.T, s *Store, p *proxy) {
			at := s.Now().Add(200 * time.Millisecond)
			later := []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1"), RunAt: at}}
			if _, err := s.Enqueue(t.Context(), s.Now(), later); err != nil {
				t.Fatal(err)
			}
			p.refuse(true)
			for ctx := withinMinutes(t); s.Now().Before(at) || s.Healthy() == nil; {
				if pause.For(ctx, time.Millisecond); ctx.Err() != nil {
					t.Fatal("the store does not say that the server is away")
				}
			}
		}},
		{"a commit is not answered", func(t *testing.T, s *Store, p *proxy) {
			p.set(nil, func([]byte) bool { return false })
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := s.Enqueue(ctx, s.Now(), []store.NewRun{{Task: "t", Queue: "q", Input: []byte("1")}}); err == nil {
				t.Error("no error of a commit that is not answered")
			}
			p.refuse(true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, through := newProxy(t, newTables(t))
			s, err := open(t.Context(), through)
			if err != nil {
				t.Fatal(err)
			}
			c.during(t, s, p)
			closed := make(chan error, 1)
			go func() { closed <- s.Close() }()
			select {
			case <-closed: // its error says that the process could not say goodbye
			case <-withinMinutes(t).Done():
				p.refuse(false)
				t.Error("Close waits for a server that is away")
			}
		})
	}
}
