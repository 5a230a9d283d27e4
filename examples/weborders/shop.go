package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/sqlite"
	"github.com/stint-dev/stint/ui"
)

type order struct {
	ID        int64  `json:"id"`
	Item      string `json:"item"`
	Quantity  int    `json:"quantity"`
	Confirmed bool   `json:"confirmed"`
}

type shop struct {
	db      *sql.DB
	client  *stint.Client
	confirm *stint.Task[int64, string]
	token   string // who has it may see the page
	stop    context.CancelFunc
	worked  chan error
}

// newShop attaches the engine to the app's own database and starts a worker.
func newShop(ctx context.Context, db *sql.DB) (*shop, error) {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS orders (
		id INTEGER PRIMARY KEY, item TEXT NOT NULL, quantity INTEGER NOT NULL CHECK (quantity > 0), confirmed INTEGER NOT NULL DEFAULT 0)`)
	if err != nil {
		return nil, err
	}
	st, err := sqlite.New(db, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	client, err := stint.New(st)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s := &shop{db: db, client: client, token: ui.NewToken(), worked: make(chan error, 1)}
	s.confirm = stint.NewTask(client, "confirm", s.confirmOrder, stint.WithRetries(5), stint.WithRetryBackoff(2, time.Minute))
	w, err := client.NewWorker(stint.WithSlots(10))
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() { s.worked <- w.Run(work) }()
	return s, nil
}

func (s *shop) close() error {
	s.stop()
	return errors.Join(<-s.worked, s.client.Close())
}

// confirmOrder would send a mail. It may run twice, after a crash, so it changes the row in a
// way that gives the same result the second time.
func (s *shop) confirmOrder(ctx context.Context, id int64) (string, error) {
	stint.Logger(ctx).Info("confirming", "order", id)
	_, err := s.db.ExecContext(ctx, "UPDATE orders SET confirmed = 1 WHERE id = ?", id)
	return fmt.Sprintf("order %d confirmed", id), err
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/stint/", ui.Handler(s.client, ui.WithBasePath("/stint"), ui.WithToken(s.token))) // the live page of runs
	mux.HandleFunc("POST /orders", s.create)
	mux.HandleFunc("GET /orders/{id}", s.show)
	return mux
}

func (s *shop) create(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil {
		http.Error(w, "an order is JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.place(r.Context(), &o); err != nil {
		http.Error(w, "the order was not kept: "+err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/orders/%d", o.ID))
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(o)
}

// place stores the order and enqueues its confirmation: both or neither.
func (s *shop) place(ctx context.Context, o *order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after the commit
	err = tx.QueryRowContext(ctx, "INSERT INTO orders (item, quantity) VALUES (?, ?) RETURNING id", o.Item, o.Quantity).Scan(&o.ID)
	if err != nil {
		return err
	}
	if _, err := s.confirm.Enqueue(ctx, o.ID, stint.WithTx(tx)); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *shop) show(w http.ResponseWriter, r *http.Request) {
	var o order
	err := s.db.QueryRowContext(r.Context(), "SELECT id, item, quantity, confirmed FROM orders WHERE id = ?", r.PathValue("id")).
		Scan(&o.ID, &o.Item, &o.Quantity, &o.Confirmed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		http.NotFound(w, r)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		json.NewEncoder(w).Encode(o)
	}
}
