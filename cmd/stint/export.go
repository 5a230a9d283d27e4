package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store/postgres"
	"github.com/stint-dev/stint/store/sqlite"
)

// export prints all that the database has, or the journal of a run.
func export(ctx context.Context, s *session) error {
	if len(s.args) > 0 {
		if err := s.c.WriteJournal(ctx, s.args[0], s.out); err != nil {
			return err
		}
		_, err := fmt.Fprintln(s.out)
		return err
	}
	if s.db.url == "" {
		return exportFile(ctx, s.db.path, s.out)
	}
	return inTemp(func(temp string) error {
		if _, err := postgres.Snapshot(ctx, s.db.url, temp, postgres.MoveOptions{Options: s.db.options}); err != nil {
			return fmt.Errorf("stint: %w", err)
		}
		return exportFile(ctx, temp, s.out)
	})
}

func exportFile(ctx context.Context, path string, w io.Writer) error {
	st, err := sqlite.Open(path, sqlite.Options{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	_, err = st.Export(ctx, w)
	if err = errors.Join(err, st.Close()); err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	return nil
}

// inTemp calls f with the path of a file that does not exist, in a folder that is removed afterwards.
func inTemp(f func(path string) error) error {
	dir, err := os.MkdirTemp("", "stint")
	if err != nil {
		return err
	}
	return errors.Join(f(filepath.Join(dir, "copy.db")), os.RemoveAll(dir))
}

// importFile makes a database of what export printed.
func importFile(ctx context.Context, s *session) error {
	name, err := s.arg(0, "the file that stint export printed")
	if err != nil {
		return err
	}
	if err := s.wantNoRuns(ctx); err != nil {
		return err
	}
	in := os.Stdin
	if name != "-" {
		if in, err = os.Open(name); err != nil {
			return fmt.Errorf("stint: %w", err)
		}
		defer in.Close()
	}
	if s.db.url == "" && !s.dryRun {
		return s.imported(sqlite.Import(ctx, in, s.db.path))
	}
	return inTemp(func(temp string) error {
		tables, problems, err := sqlite.Import(ctx, in, temp)
		if err == nil && !s.dryRun {
			_, err = postgres.Move(ctx, temp, s.db.url, postgres.MoveOptions{Options: s.db.options})
		}
		return s.imported(tables, problems, err)
	})
}

// wantNoRuns returns an error if the database to import into has something already. Rows are not mixed: those of limits
// and lanes, and the secret that IDs are made of, are one database's.
func (s *session) wantNoRuns(ctx context.Context) error {
	refuse := func(what string) error {
		return fmt.Errorf("stint: %s: import makes a new database: name a file that does not exist, or a PostgreSQL schema without runs",
			what)
	}
	if s.db.url == "" {
		if _, err := os.Lstat(s.db.path); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, refuse(s.db.path+" exists"))
		}
		return nil
	}
	have, _, _, err := postgres.Version(ctx, s.db.url, s.db.options)
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	if have == 0 {
		return nil
	}
	c, err := s.db.open(ctx, true)
	if err != nil {
		return err
	}
	page, err := c.ListRuns(ctx, stint.RunFilter{Limit: 1})
	if err == nil && len(page.Runs) > 0 {
		err = refuse("schema " + s.db.options.Schema + " has runs")
	}
	return errors.Join(err, c.Close())
}

// imported prints what was imported.
func (s *session) imported(tables map[string]int64, problems []string, err error) error {
	if err != nil {
		return fmt.Errorf("stint: %w", err)
	}
	if s.format() != asTable {
		return json.NewEncoder(s.out).Encode(map[string]any{"tables": tables, "problems": append([]string{}, problems...),
			"dry_run": s.dryRun})
	}
	for _, p := range problems {
		fmt.Fprintln(s.out, "found, as it was before the export: "+p)
	}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		fmt.Fprintf(s.out, "%8d %s\n", tables[name], name)
	}
	what := "imported %d runs\n"
	if s.dryRun {
		what = "%d runs would be imported\n"
	}
	_, err = fmt.Fprintf(s.out, what, tables["runs"])
	return err
}
