// Command onboarding takes new users through their first days: a welcome mail, a wait of three
// days, a reminder if they have not clicked by then, and an account that a person approves on a
// web page. Each user is one function that takes days. Kill the program at any moment and start
// it again: each function continues where it was.
//
//	go run ./examples/onboarding -fast -db /tmp/onboarding.db -mails /tmp/mails
//	curl -X POST localhost:8081/users/ada       # a new user
//	curl -X POST localhost:8081/users/ada/click # she clicked
//	open http://localhost:8081                  # approve her
//
// With -fast a day is two seconds. Mails are files in the folder -mails.
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
	"syscall"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/examples/internal/database"
)

func main() {
	path := flag.String("db", "onboarding.db", "database file")
	mails := flag.String("mails", "mails", "folder that mails are written to")
	addr := flag.String("addr", "localhost:8081", "where to listen")
	fast := flag.Bool("fast", false, "a day is two seconds")
	flag.Parse()
	day := 24 * time.Hour
	if *fast {
		day = 2 * time.Second
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *path, *mails, *addr, day); err != nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context, path, mails, addr string, day time.Duration) error {
	if err := os.MkdirAll(mails, 0o755); err != nil {
		return err
	}
	c, err := database.Open("onboarding", path)
	if err != nil {
		return err
	}
	defer c.Close()
	o := define(c, mails, day)
	w, err := c.NewWorker(stint.WithDrainTimeout(2 * time.Second))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%[1]s; what runs: http://%[1]s/stint/?token=%[2]s\n", l.Addr(), o.token)
	srv := &http.Server{Handler: o.handler(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Shutdown(context.Background()) })()
	worked := make(chan error, 1)
	go func() { worked <- w.Run(ctx) }()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-worked
}
