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
	if s.json {
		err = json.NewEncoder(s.out).Encode(map[string]any{"problems": append([]string{}, found...)})
	} else if len(found) == 0 {
		_, err = fmt.Fprintln(s.out, "no problem found")
	} else {
		err = printRows(s, "PROBLEM", found, func(p string) string { return truncate(p) })
	}
	if err == nil && len(found) > 0 {
		err = errors.New("stint: the file is damaged: restore a backup, or ask")
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
	return s.c.Backup(ctx, path)
}
