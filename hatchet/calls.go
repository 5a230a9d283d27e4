package hatchet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/hatchet/internal/wire"
)

const maxLogMessage = 10_000 // characters

var errNotRunning = status.Error(codes.NotFound, "no worker of this server executes the run")

// running returns the execution of a run, for a call that a task makes while it executes.
func (s *Server) running(run string) (*execution, error) {
	e := s.execution(run, nil)
	if e == nil {
		return nil, errNotRunning
	}
	e.w.touch()
	e.begins()
	return e, nil
}

// RefreshTimeout gives an attempt more time.
func (s rpc) RefreshTimeout(_ context.Context, r *wire.RefreshTimeoutRequest) (*wire.RefreshTimeoutResponse, error) {
	d, err := time.ParseDuration(r.IncrementTimeoutBy)
	if err != nil || d <= 0 {
		return nil, invalid("increment_timeout_by is %.100q: want a time such as 15s", r.IncrementTimeoutBy)
	}
	e, err := s.running(r.TaskRunExternalId)
	if err != nil {
		return nil, err
	}
	if err := stint.ExtendTimeout(e.ctx, d); err != nil {
		return nil, errNotRunning
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.extended += d
	return &wire.RefreshTimeoutResponse{TimeoutAt: timestamppb.New(e.info.Started.Add(e.task.Timeout + e.extended))}, nil
}

// ReleaseSlot lets another run have the slots of one that goes on.
func (s rpc) ReleaseSlot(_ context.Context, r *wire.ReleaseSlotRequest) (*wire.ReleaseSlotResponse, error) {
	e, err := s.running(r.TaskRunExternalId)
	if err != nil {
		return nil, err
	}
	if err := stint.ReleaseSlot(e.ctx); err != nil {
		return nil, err
	}
	e.releaseSlots()
	return &wire.ReleaseSlotResponse{}, nil
}

// PutLog keeps a line that a task logged. SDKs send lines without waiting for the answer: one may come when its run has
// ended, or is executed again, and is kept too. Without a run there is nothing to keep it with.
func (s rpc) PutLog(ctx context.Context, r *wire.PutLogRequest) (*wire.PutLogResponse, error) {
	if n := len([]rune(r.Message)); n > maxLogMessage {
		return nil, invalid("the message has %d characters: want at most %d", n, maxLogMessage)
	}
	level, ok := logLevels[strings.ToUpper(r.GetLevel())]
	if !ok {
		return nil, invalid("level is %.100q: want DEBUG, INFO, WARN or ERROR", r.GetLevel())
	}
	values := map[string]any{}
	if r.Metadata != "" && json.Unmarshal([]byte(r.Metadata), &values) != nil {
		return nil, invalid("metadata is not a JSON object")
	}
	e := s.execution(r.TaskRunExternalId, r.TaskRetryCount)
	if e != nil {
		e.w.touch()
		if e.log(level, r.Message, values) {
			return &wire.PutLogResponse{}, nil
		}
	}
	err := s.addLog(ctx, r, stint.LogLine{Level: level, Message: r.Message, Attrs: []byte(r.Metadata)})
	if errors.Is(err, stint.ErrNotFound) {
		err = nil
	}
	return &wire.PutLogResponse{}, err
}

// log gives a line to the run's own log, unless the run has finished.
func (e *execution) log(level slog.Level, message string, values map[string]any) bool {
	e.mu.Lock()
	defer e.mu.Unlock() // it does not finish before the line is there
	if e.finished {
		return false
	}
	var attrs []slog.Attr
	for k, v := range values {
		attrs = append(attrs, slog.Any(k, v))
	}
	stint.Logger(e.ctx).LogAttrs(e.ctx, level, message, attrs...)
	return true
}

// addLog adds a line to a run that does not execute, or no longer as the line says. An attempt may be several executions:
// which of them the line is of is known of the last.
func (s *Server) addLog(ctx context.Context, r *wire.PutLogRequest, l stint.LogLine) error {
	if !isUUID(r.TaskRunExternalId) {
		return nil
	}
	info, err := s.c.GetRun(ctx, r.TaskRunExternalId)
	if err != nil {
		return err
	}
	l.Attempt = max(1, info.Attempt)
	if r.TaskRetryCount != nil {
		l.Attempt = min(l.Attempt, max(1, int(r.GetTaskRetryCount())+1))
	}
	return s.c.AddLogs(ctx, info.ID, l)
}

var logLevels = map[string]slog.Level{"": slog.LevelInfo, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARN": slog.LevelWarn,
	"WARNING": slog.LevelWarn, "ERROR": slog.LevelError}

// chunkGap bounds the wait of a chunk for the chunks before it.
const chunkGap = 5 * time.Second

// PutStreamEvent appends a chunk to a run's stream. Chunks that arrive in another order than the task sent them wait for
// their turn. The chunk is stored when the call returns.
func (s rpc) PutStreamEvent(ctx context.Context, r *wire.PutStreamEventRequest) (*wire.PutStreamEventResponse, error) {
	e, err := s.running(r.TaskRunExternalId)
	if err != nil {
		return nil, err
	}
	if r.EventIndex != nil {
		if err := e.awaitTurn(ctx, r.GetEventIndex()); err != nil {
			return nil, err
		}
		defer e.nextTurn(r.GetEventIndex())
	}
	if err := stint.Stream(e.ctx, r.Message); err != nil {
		return nil, err
	}
	return &wire.PutStreamEventResponse{}, nil
}

// awaitTurn waits until the chunks before index are stored, at most chunkGap.
func (e *execution) awaitTurn(ctx context.Context, index int64) error {
	gap := time.NewTimer(chunkGap)
	defer gap.Stop()
	for {
		e.mu.Lock()
		if e.turn == nil {
			e.turn = make(chan struct{})
		}
		due, changed := index <= e.chunks, e.turn
		e.mu.Unlock()
		if due {
			return nil
		}
		select {
		case <-changed:
		case <-gap.C:
			return nil
		case <-e.done:
			return errNotRunning
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *execution) nextTurn(index int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.chunks = max(e.chunks, index+1)
	if e.turn != nil {
		close(e.turn)
		e.turn = nil
	}
}
