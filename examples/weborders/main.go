// Command weborders takes orders over HTTP. The order's row and the task that confirms it are
// stored in one transaction: no order is without its confirmation, and no confirmation without
// its order.
//
//	go run ./examples/weborders -db /tmp/orders.db
//	curl -d '{"item":"tea","quantity":2}' localhost:8080/orders
//	curl localhost:8080/orders/1
package main

import (
	"context"
	"database/sql"
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
)

func main() {
	path := flag.String("db", "orders.db", "database file; orders and tasks share it")
	addr := flag.String("addr", "localhost:8080", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *path, *addr); err != nil {
		log.Fatal(err)
	}
}

// serve runs the shop until ctx is done.
func serve(ctx context.Context, path, addr string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := newShop(ctx, db)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, s.close())
	}
	fmt.Printf("listening on http://%[1]s; the web page: http://%[1]s/stint/?token=%[2]s\n", l.Addr(), s.token)
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Shutdown(context.Background()) })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, s.close())
	}
	return s.close()
}
