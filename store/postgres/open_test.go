package postgres

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Processes that open a new database at once make its tables once.
func TestMigrateAtOnce(t *testing.T) {
	s := noTables(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() { errs[i] = Migrate(t.Context(), serverURL(t), s.Options) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	c := dial(t, s)
	if v, err := s.version(t.Context(), c); v != (version{1, 1}) || err != nil {
		t.Errorf("version %+v, %v; want 1", v, err)
	}
	if secret, err := s.secret(t.Context(), c); len(secret) != 16 || err != nil {
		t.Errorf("secret of %d bytes, %v; want 16", len(secret), err)
	}
}

func TestMigrateRefuses(t *testing.T) {
	s := newTables(t)
	c := dial(t, s)
	if _, err := c.Exec(t.Context(), qualify("UPDATE stint.schema_version SET version = 99, oldest = 98", s.Schema)); err != nil {
		t.Fatal(err)
	}
	if err := s.migrate(t.Context(), c, 1); !errors.Is(err, ErrNewer) {
		t.Errorf("tables of a later version: %v; want ErrNewer", err)
	}
	none := noTables(t)
	none.ReadOnly = true
	if err := none.migrate(t.Context(), c, 1); !errors.Is(err, ErrNoTables) {
		t.Errorf("no tables, read-only: %v; want ErrNoTables", err)
	}
}

// A role that may not create is told what to do; once its tables are there and it may use them, it works.
func TestRoleWithoutRights(t *testing.T) {
	s := noTables(t)
	owner := dial(t, s)
	role := "r_" + randomHex()
	exec := func(statement string) {
		t.Helper()
		if _, err := owner.Exec(t.Context(), strings.ReplaceAll(strings.ReplaceAll(statement, "ROLE_NAME", role), "SCHEMA_NAME", s.Schema)); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	exec("CREATE ROLE ROLE_NAME LOGIN PASSWORD 'x'")
	t.Cleanup(func() {
		owner := dial(t, s)
		if _, err := owner.Exec(t.Context(), "DROP OWNED BY "+role); err == nil {
			owner.Exec(t.Context(), "DROP ROLE "+role)
		}
	})
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, "x")
	if err := Migrate(t.Context(), u.String(), s.Options); !errors.Is(err, ErrNoTables) || !strings.Contains(err.Error(), "stint migrate URL") {
		t.Errorf("a role that may not create: %v; want ErrNoTables, and what to do", err)
	}
	if err := Migrate(t.Context(), serverURL(t), s.Options); err != nil {
		t.Fatal(err)
	}
	if err := Migrate(t.Context(), u.String(), s.Options); err == nil || !strings.Contains(err.Error(), "grant this role USAGE") {
		t.Errorf("a role that may not read: %v; want what to grant", err)
	}
	exec("GRANT USAGE ON SCHEMA SCHEMA_NAME TO ROLE_NAME")
	exec("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA SCHEMA_NAME TO ROLE_NAME")
	if err := Migrate(t.Context(), u.String(), s.Options); err != nil {
		t.Errorf("a role with rights, and tables: %v", err)
	}
}

// What cannot work is a clear error that says what to do.
func TestOpenRefuses(t *testing.T) {
	u, err := url.Parse(serverURL(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*url.URL)) string {
		x := *u
		change(&x)
		return x.String()
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close() // nothing listens there now
	for _, c := range []struct {
		name, url, want string
		opts            Options
	}{
		{"no server", with(func(u *url.URL) { u.Host = closed.Addr().String() }), "is the server running", Options{}},
		{"no database", with(func(u *url.URL) { u.Path = "/nothing_there" }), "create it", Options{}},
		{"bad URL", "postgres://%zz", "cannot parse", Options{}},
		{"bad schema", u.String(), "want at most 50 lower case", Options{Schema: "Bad-Name"}},
		{"bad direct URL", u.String(), "Options.Direct", Options{Direct: "postgres://%zz"}},
	} {
		err := Migrate(t.Context(), c.url, c.opts)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want one that says %q", c.name, err, c.want)
		}
	}
	// The control: the URL itself works.
	if err := Migrate(t.Context(), u.String(), newTables(t).Options); err != nil {
		t.Error(err)
	}
}

func TestClock(t *testing.T) {
	s := newTables(t)
	c := dial(t, s)
	var k serverClock
	if err := k.measure(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if skew := k.skew().Abs(); skew > time.Minute { // the same machine
		t.Errorf("the server's clock is %v off", skew)
	}
	synctest.Test(t, func(t *testing.T) {
		k.offset.Store(int64(-time.Hour))
		if got, want := k.Now(), time.Now().Add(-time.Hour); !got.Equal(want) {
			t.Errorf("Now is %v, want an hour behind this machine's time: %v", got, want)
		}
	})
}
