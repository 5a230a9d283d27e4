package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

func doctor(ctx context.Context, s *session) error {
	found, err := s.c.Check(ctx)
	if err != nil {
		return err
	}
	if s.format() != asTable {
		err = json.NewEncoder(s.out).Encode(map[string]any{"problems": append([]string{}, found...)})
	} else if len(found) == 0 {
		_, err = fmt.Fprintln(s.out, "no problem found")
	} else {
		l := list[string]{s: s, header: "PROBLEM", row: func(p *string) string { return truncate(*p) }}
		err = l.print(found)
	}
	if err == nil && len(found) > 0 {
		err = errors.New("stint: the database is damaged: restore a backup, or ask")
	}
	return err
}

func backup(ctx context.Context, s *session) error {
	path, err := s.arg(0, "where to write the copy")
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if s.db.url != "" {
		return usagef("stint: a PostgreSQL database is copied by its own tools: pg_dump --format=custom --schema=%s --file=%s URL",
			s.db.options.Schema, path)
	}
	if s.c, err = s.db.open(ctx, true); err != nil {
		return err
	}
	return s.printDone(errors.Join(s.c.Backup(ctx, path), s.c.Close()))
}
