package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/stint-dev/stint/store/postgres"
)

// isURL reports whether a text names a database of a server.
func isURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// move moves a file into a server's database, or back.
func move(ctx context.Context, s *session) error {
	if s.db.path != "" {
		if err := s.db.exists(); err != nil {
			return err
		}
	}
	to, err := s.arg(0, "the database to move to")
	if err != nil {
		return err
	}
	if (s.db.url != "") == isURL(to) {
		return usagef("stint: move goes from a file to the URL of a PostgreSQL database, or from that to a file: %q is neither", to)
	}
	opts := postgres.MoveOptions{Options: postgres.Options{Schema: s.schema}}
	if s.format() == asTable {
		opts.Progress = func(text string) { fmt.Fprintln(s.out, text) }
	}
	var report postgres.MoveReport
	switch back := s.db.url != ""; {
	case s.cancel && back:
		err = postgres.CancelMoveBack(ctx, s.db.url, opts)
	case s.cancel:
		err = postgres.CancelMove(ctx, s.db.path, to, opts)
	case back:
		report, err = postgres.MoveBack(ctx, s.db.url, to, opts)
	default:
		report, err = postgres.Move(ctx, s.db.path, to, opts)
	}
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	return s.printMove(to, report)
}

func (s *session) printMove(to string, r postgres.MoveReport) error {
	if s.format() != asTable {
		return json.NewEncoder(s.out).Encode(map[string]any{"runs": r.Runs, "rows": r.Rows, "rounds": r.Rounds, "canceled": s.cancel,
			"pause_ms": r.Pause.Milliseconds(), "took_ms": r.Took.Milliseconds(), "problems": append([]string{}, r.Problems...)})
	}
	if s.cancel {
		_, err := fmt.Fprintln(s.out, "the move is forgotten: programs work on as before")
		return err
	}
	for _, p := range r.Problems {
		fmt.Fprintln(s.out, "found, as it was before the move: "+p)
	}
	_, err := fmt.Fprintf(s.out, "moved %d runs in %v\n", r.Runs, r.Took.Round(time.Millisecond))
	if err == nil && !isURL(to) {
		_, err = fmt.Fprintln(s.out, "no program can open the database any more; drop its schema when you do not need it")
	} else if err == nil {
		_, err = fmt.Fprintln(s.out, "the file refuses every write; keep it until you have a backup of the database")
	}
	return err
}

// exists returns an error if there is no file, or it is not one of stint's.
func (d *database) exists() error {
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stint: %s does not exist", d.path) // Open would make it
	}
	return checkFile(d.path)
}
