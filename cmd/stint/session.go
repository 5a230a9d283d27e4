package main

import (
	"context"
	"io"

	"github.com/stint-dev/stint"
)

// options holds the values of flags.
type options struct {
	db             string
	output         string
	json           bool
	help, version  bool
	schema         string
	tasks, queues  texts
	states         texts
	metadata       pairs
	since, until   moment
	errorHas       string
	parent         string
	topLevel, flat bool
	group          string
	muted          bool
	toDouble       bool
	event, worker  string
	limit          int
	oldest         bool
	key            string
	queue          string
	delay, refresh duration
	follow, once   bool
	after          int64
	level, text    string
	address, span  string
	perTask        bool
	perQueue       bool
	perLimit       bool
	ids            texts
	all, dryRun    bool
	force          bool
	cancel         bool
	http           string
	readOnly       bool
	localAccess    bool
	backupDir      string
}

// A session is one command on one database.
type session struct {
	*options
	db   database
	c    *stint.Client // nil for a command that opens by itself
	args []string
	out  io.Writer
}

// arg returns an argument after the database, or an error with its name if it is missing.
func (s *session) arg(i int, name string) (string, error) {
	if i >= len(s.args) {
		return "", usagef("stint: %s is missing", name)
	}
	return s.args[i], nil
}

// checkNames returns an error if a name is unknown to the database, which usually means a typo.
func (s *session) checkNames(ctx context.Context, tasks, queues []string) error {
	if s.force || len(tasks)+len(queues) == 0 {
		return nil
	}
	names, err := s.c.Names(ctx)
	if err != nil {
		return err
	}
	if err := names.Unknown(tasks, nil); err != nil {
		return usagef("%w (-force insists; stint tasks lists them)", err)
	}
	if err := names.Unknown(nil, queues); err != nil {
		return usagef("%w (-force insists; stint queues lists them)", err)
	}
	return nil
}
