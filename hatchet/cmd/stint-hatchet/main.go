// The stint-hatchet command serves Hatchet's SDKs, and the web page, on a stint database.
//
//	stint-hatchet -db app.db
//
// It prints the environment that programs with an SDK need:
//
//	export HATCHET_CLIENT_TOKEN=...
//	export HATCHET_CLIENT_TLS_STRATEGY=none
//
// and the address of the page. The database is a SQLite file, which is made if it does not exist, or a PostgreSQL URL.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	_ "github.com/stint-dev/stint/cel" // keys and filters of definitions
	"github.com/stint-dev/stint/hatchet"
	"github.com/stint-dev/stint/internal/build"
	"github.com/stint-dev/stint/store/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type options struct {
	db, schema, addr, advertise string
	cert, key                   string
	localAccess, noPage         bool
	revoke, quiet, version      bool
	retention                   time.Duration
	maxMessage                  int
}

func parse(args []string, errs io.Writer) (o options, err error) {
	f := flag.NewFlagSet("stint-hatchet", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.db, "db", os.Getenv("STINT_DATABASE_URL"), "the `database`: a SQLite file, or postgres://user@host/database")
	f.StringVar(&o.schema, "schema", "", "the `schema` of a PostgreSQL database (default stint)")
	f.StringVar(&o.addr, "addr", "127.0.0.1:7077", "`address` to listen at, for SDKs and browsers")
	f.StringVar(&o.advertise, "advertise", "", "`host:port` that the token tells SDKs to connect to (default: that of -addr)")
	f.StringVar(&o.cert, "tls-cert", "", "`file` with the certificate chain, PEM; without it connections are not encrypted")
	f.StringVar(&o.key, "tls-key", "", "`file` with the certificate's key, PEM")
	f.BoolVar(&o.noPage, "no-page", false, "do not serve the web page")
	f.BoolVar(&o.localAccess, "local-access", false, "give every user and program of this machine access to the page, without a token")
	f.BoolVar(&o.revoke, "revoke", false, "make all tokens that were issued before invalid")
	f.BoolVar(&o.version, "version", false, "print the version of stint, and end")
	f.BoolVar(&o.quiet, "quiet", false, "print no token")
	f.DurationVar(&o.retention, "retention", stint.DefaultRetention, "how long runs are kept after they have ended")
	f.IntVar(&o.maxMessage, "max-message", 4<<20, "highest number of `bytes` of a message, input or output")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case o.version:
		return o, nil
	case o.db == "":
		return o, errors.New("stint-hatchet: no database: set -db, or $STINT_DATABASE_URL")
	case f.NArg() > 0:
		return o, fmt.Errorf("stint-hatchet: unknown argument %q", f.Arg(0))
	case (o.cert == "") != (o.key == ""):
		return o, errors.New("stint-hatchet: want both -tls-cert and -tls-key, or none")
	}
	return o, nil
}

// run serves until ctx is done.
func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	if o.version {
		_, err := fmt.Fprintf(out, "stint-hatchet %s, %s\n", build.Version(), runtime.Version())
		return err
	}
	c, err := open(ctx, o, slog.New(slog.NewTextHandler(errs, nil)))
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, c, o, out, errs), c.Close())
}

// open opens the database.
func open(ctx context.Context, o options, log *slog.Logger) (*stint.Client, error) {
	opts := []stint.ClientOption{stint.WithLogger(log), stint.WithRetention(o.retention), stint.WithMaxPayload(o.maxMessage)}
	if !strings.HasPrefix(o.db, "postgres://") && !strings.HasPrefix(o.db, "postgresql://") {
		return stint.Open(o.db, opts...)
	}
	s, err := postgres.Open(ctx, o.db, postgres.Options{Schema: o.schema})
	if err != nil {
		return nil, err
	}
	c, err := stint.New(s, opts...)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

func serve(ctx context.Context, c *stint.Client, o options, out, errs io.Writer) error {
	opts := hatchet.Options{Address: o.advertise, MaxMessage: o.maxMessage, Logger: slog.New(slog.NewTextHandler(errs, nil))}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("stint-hatchet: %w", err)
		}
		opts.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return fmt.Errorf("stint-hatchet: %w", err)
	}
	defer l.Close()
	if opts.Address == "" {
		opts.Address = urlHost(l.Addr())
	}
	page, query := pageOf(c, o)
	if page != nil {
		opts.Page = page
	}
	s, err := hatchet.NewServer(c, opts)
	if err != nil {
		return err
	}
	if o.revoke {
		if err := s.RevokeTokens(ctx); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	if err := announce(s, o, urlHost(l.Addr()), query, out); err != nil {
		return errors.Join(err, s.Close())
	}
	return s.Serve(ctx, l)
}
