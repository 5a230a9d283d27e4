package hatchet

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/stint-dev/stint"
)

// Errors of calls about workers. FailedPrecondition makes an SDK open its stream again; NotFound ends a worker.
var (
	errNoWorker    = status.Error(codes.NotFound, "no worker has this ID: register again")
	errNoStream    = status.Error(codes.FailedPrecondition, "the worker has no stream: call ListenV2")
	errEnds        = status.Error(codes.Unavailable, "the server ends")
	errManyWorkers = status.Error(codes.ResourceExhausted, "too many workers: raise Options.MaxWorkers, or end some")
)

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}

func isUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}

// namespace is that of the UUIDs which are made of names.
var namespace = uuid.MustParse("6d2f1c1e-3a8e-5c55-9d0c-9a0f6f1f7e2b")

// idOf returns a UUID that is the same for the same names.
func idOf(names ...string) string {
	var data []byte
	for _, n := range names {
		data = append(strconv.AppendInt(data, int64(len(n)), 10), ':')
		data = append(data, n...)
	}
	return uuid.NewSHA1(namespace, data).String()
}

func itoa(n int) string { return strconv.Itoa(n) }

func stack() string { return string(debug.Stack()) }

// statusOf returns an error of the client as a status that SDKs know.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if known := codeOf(err); known != nil {
		return known
	}
	return status.Error(codes.Internal, err.Error())
}

// codeOf returns the status of an error if it is one, or of the client or the context, or else nil.
func codeOf(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	for _, known := range []struct {
		err  error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled}, {context.DeadlineExceeded, codes.DeadlineExceeded}, {stint.ErrNotFound, codes.NotFound},
		{stint.ErrClosed, codes.Unavailable}, {stint.ErrBusy, codes.Unavailable}, {stint.ErrReadOnly, codes.FailedPrecondition},
		{stint.ErrStarted, codes.FailedPrecondition},
	} {
		if errors.Is(err, known.err) {
			return status.Error(known.code, err.Error())
		}
	}
	return nil
}
