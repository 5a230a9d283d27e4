package ui

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func listErrors(h *handler, ctx context.Context, in url.Values) (any, error) {
	limit, err := intParam(in, "limit", 0)
	if err != nil {
		return nil, err
	}
	f := stint.ErrorFilter{IDs: in["id"], Tasks: in["task"], Limit: limit, Cursor: in.Get("cursor")}
	if f.Text = in.Get("text"); f.Text != "" && h.redact != nil {
		return nil, errHiddenErrors
	}
	if f.Since, err = agoParam(in, "since"); err != nil {
		return nil, err
	}
	if f.Until, err = agoParam(in, "until"); err != nil {
		return nil, err
	}
	switch span := in.Get("span"); span {
	case "":
	case "minute":
		f.Span = time.Minute
	case "hour":
		f.Span = time.Hour
	default:
		return nil, fmt.Errorf("span %q: want minute or hour", span)
	}
	page, err := h.c.ListErrors(ctx, f)
	if err != nil {
		return nil, err
	}
	h.redactErrors(page.Groups)
	out := wireErrors{Errors: []wireError{}, Next: page.Next}
	for i := range page.Groups {
		out.Errors = append(out.Errors, wire.ErrorOf(&page.Groups[i]))
	}
	n := fitAnswer(out.Errors)
	if n == len(out.Errors) {
		return out, nil
	}
	f.Limit = n // for the cursor
	page, err = h.c.ListErrors(ctx, f)
	if err != nil {
		return nil, err
	}
	out.Errors, out.Next = out.Errors[:min(n, len(page.Groups))], page.Next
	return out, nil
}

// errHiddenErrors refuses a search: who can search a hidden text can guess all of it.
var errHiddenErrors = errors.New("text: errors cannot be searched by their texts where WithRedact may hide these")

func muteErrors(h *handler, ctx context.Context, in url.Values) (any, error) {
	toDouble, err := boolParam(in, "to_double")
	if err != nil {
		return nil, err
	}
	if toDouble && in.Get("for") != "" {
		return nil, errors.New("want for or to_double, not both")
	}
	if toDouble {
		return wireDone{true}, h.c.MuteErrorsToDouble(ctx, in.Get("error"))
	}
	var until time.Time
	if text := in.Get("for"); text != "" {
		d, err := parseDuration(text)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("for %q: want a duration like 24h or 7d, or nothing: for good", text)
		}
		until = time.Now().Add(d)
	}
	return wireDone{true}, h.c.MuteErrors(ctx, in.Get("error"), until)
}
