// Command APPNAME writes reports in the background: POST /jobs starts one, GET /jobs/{id} says how far it is,
// /stint/ is the live page of all runs.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/ui"
)

func main() {
	path := flag.String("db", "APPNAME.db", "database file")
	addr := flag.String("addr", "localhost:8080", "where to listen")
	pace := flag.Duration("pace", time.Second, "how long a page takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *path, *addr, *pace); err != nil {
		log.Fatal(err)
	}
}

// run serves and works until ctx ends.
func run(ctx context.Context, path, addr string, pace time.Duration) (err error) {
	client, err := stint.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }() // waits for the worker
	a := newApp(client, pace)
	worker, err := client.NewWorker(stint.WithSlots(10), stint.WithDrainTimeout(20*time.Second))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	worked := make(chan error, 1)
	go func() { worked <- worker.Run(work) }()

	token := cmp.Or(os.Getenv("PAGE_TOKEN"), ui.NewToken())
	fmt.Printf("listening on http://%[1]s; the page of runs: http://%[1]s/stint/?token=%[2]s\n", l.Addr(), token)
	srv := &http.Server{Handler: a.handler(token), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(end)
	})()
	if err = srv.Serve(l); errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	cancel()
	return errors.Join(err, <-worked) // what runs finishes, or is continued by the next start
}
