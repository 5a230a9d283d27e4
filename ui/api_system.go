package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/build"
	"github.com/stint-dev/stint/internal/wire"
)

func listAlerts(h *handler, ctx context.Context, in url.Values) (any, error) {
	out := wireAlerts{Rules: []wireRule{}, Sinks: []wireSink{}}
	if h.alerts == nil {
		return out, nil
	}
	all, err := h.alerts.Statuses(ctx)
	for _, s := range all {
		out.Rules = append(out.Rules, wireRule{s.Name, s.Task, s.State.String(), s.Count, s.Rate, wire.MS(s.Window), s.Sinks,
			s.Firing(), wire.Optional(s.Since), wire.Optional(s.Sent)})
	}
	for _, s := range h.alerts.Sinks() {
		out.Sinks = append(out.Sinks, wireSink{s.Name, s.Kind})
	}
	return out, err
}

func testAlert(h *handler, ctx context.Context, in url.Values) (any, error) {
	if h.alerts == nil {
		return nil, fmt.Errorf("the program has no alerts: ui.WithAlerts: %w", stint.ErrNotFound)
	}
	everySink, err := boolParam(in, "all")
	if err != nil {
		return nil, err
	}
	sink := in.Get("sink")
	if (sink == "") != everySink {
		return nil, errors.New("name a sink, or say all")
	}
	return wireDone{true}, h.alerts.Test(ctx, sink)
}

func listStats(h *handler, ctx context.Context, in url.Values) (any, error) {
	f := stint.StatsFilter{PerTask: in.Get("per_task") != "", PerQueue: in.Get("per_queue") != "", PerLimit: in.Get("per_limit") != ""}
	var err error
	if f.Since, err = agoParam(in, "since"); err != nil {
		return nil, err
	}
	if f.Since.IsZero() {
		f.Since = time.Now().Add(-time.Hour)
	}
	switch in.Get("span") {
	case "hour":
		f.Span = time.Hour
	case "", "minute":
	default:
		return nil, fmt.Errorf("span %q: want minute or hour", in.Get("span"))
	}
	all, err := h.c.Stats(ctx, f)
	out := wireStats{Stats: []wireStat{}}
	for i := range all {
		all[i].Limit.Key = h.redactKey(all[i].Limit)
		out.Stats = append(out.Stats, wire.StatOf(&all[i]))
	}
	return out, err
}

func getHealth(h *handler, ctx context.Context, in url.Values) (any, error) {
	d, err := h.c.Database(ctx)
	if err != nil {
		return nil, err
	}
	out := wireHealth{OK: true, Version: build.Version(), Path: d.Path, Engine: d.Engine, Schema: d.Schema, Durability: d.Durability,
		Size: d.Size}
	if s := d.Server; s != nil {
		out.Server = &wireServer{s.Address, s.Database, s.Schema, s.Processes, s.Connections, s.MaxConnections, s.Listens, wire.MS(s.Skew),
			s.DeadRows, s.LiveRows, wire.MS(s.OldestSnapshot), s.SnapshotOf, s.Standbys, s.StandbyLag}
	} else {
		out.Free, out.LogSize, out.Checkpoint = &d.Free, &d.LogSize, wire.Optional(d.Checkpoint)
	}
	if err := h.c.Healthy(); err != nil {
		out.OK, out.Problem = false, err.Error()
	}
	return out, nil
}

func check(h *handler, ctx context.Context, in url.Values) (any, error) {
	found, err := h.c.Check(ctx)
	return wireCheck{append([]string{}, found...)}, err
}

func backup(h *handler, ctx context.Context, in url.Values) (any, error) {
	name, err := requiredParam(in, "path")
	if err != nil {
		return nil, err
	}
	if h.backupDir == "" {
		return nil, errors.New("the program names no directory for backups: ui.WithBackupDir")
	}
	if filepath.Dir(name) == filepath.Clean(h.backupDir) {
		name = filepath.Base(name)
	}
	if !backupName.MatchString(name) || besideDatabase.MatchString(name) {
		return nil, fmt.Errorf("path %q: want the name of a new file in %s: letters, digits, dots, _ and -, "+
			"and not one of a database's log or lock", name, h.backupDir)
	}
	return wireDone{true}, h.c.Backup(ctx, filepath.Join(h.backupDir, name))
}

var (
	backupName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)
	besideDatabase = regexp.MustCompile(`-(wal|shm|journal)$|-stint-`)
)
