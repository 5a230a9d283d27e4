// Command APPNAME writes reports in the background: POST /jobs starts one, GET /jobs/{id} says how far it is,
// /stint/ is the live page of all runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stint-dev/stint"
)

const minPassword = 16 // characters

func main() {
	path := flag.String("db", "APPNAME.db", "database file")
	addr := flag.String("addr", "localhost:8080", "where to listen")
	pace := flag.Duration("pace", time.Second, "how long a page takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *path, *addr, os.Getenv("PAGE_PASSWORD"), *pace); err != nil {
		log.Fatal(err)
	}
}

// run serves and works until ctx ends. Without a password only this machine has the page.
func run(ctx context.Context, path, addr, password string, pace time.Duration) (err error) {
	if password != "" && len(password) < minPassword {
		return fmt.Errorf("PAGE_PASSWORD has %d characters: want %d or more", len(password), minPassword)
	}
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

	url := "http://" + strings.Replace(l.Addr().String(), "[::]", "localhost", 1)
	page, link := a.localPage()
	if password != "" {
		page, link = a.sharedPage(password), "/stint/"
	}
	fmt.Printf("listening on %s; the page of runs: %s\n", url, url+link)
	srv := &http.Server{Handler: a.handler(page), ReadHeaderTimeout: 5 * time.Second}
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
