package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/wire"
	"github.com/urfave/cli/v3"
)

func followFlags(o *options) []cli.Flag {
	return []cli.Flag{
		boolFlag("follow", "go on until the run has ended", &o.follow),
		&cli.Int64Flag{Name: "after", Usage: "only those after this `number`", Destination: &o.after},
		everyFlag(o),
	}
}

// showStream prints what a run has streamed: as it is, or in JSON its chunks with their attempts and times.
func showStream(ctx context.Context, s *session) error {
	id, err := s.arg(0, "the run's ID")
	if err != nil {
		return err
	}
	l := list[wire.Chunk]{s: s, field: "chunks", wire: func(c *wire.Chunk) any { return c }}
	next, last := s.after, ""
	err = s.untilEnd(ctx, id, func() (int, error) {
		chunks, err := s.c.Chunks(ctx, id, next, 1000)
		for _, c := range chunks {
			next, last = c.Seq, string(c.Data)
			if s.format() == asTable {
				_, err = io.WriteString(s.out, streamText(last))
			} else {
				err = l.print([]wire.Chunk{wire.ChunkOf(&c, strings.ToValidUTF8(last, "\uFFFD"))})
			}
			if err != nil {
				break
			}
		}
		return len(chunks), err
	})
	if err == nil && s.format() == asTable && last != "" && !strings.HasSuffix(last, "\n") {
		_, err = fmt.Fprintln(s.out)
	}
	if err != nil {
		return err
	}
	return l.end("next", next)
}

// streamText returns a chunk as it is printed: without control characters but for ends of lines and tabs.
func streamText(chunk string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == utf8.RuneError {
			return r
		}
		return printable(r)
	}, chunk)
}

// untilEnd calls more until it returns 0, and with -follow until the run has ended, too.
func (s *session) untilEnd(ctx context.Context, id string, more func() (int, error)) error {
	for {
		r, err := s.c.GetRun(ctx, id) // before the rest, so that nothing before the end is missed
		if err != nil {
			return s.interrupted(ctx, err)
		}
		n, err := more()
		if err != nil {
			return s.interrupted(ctx, err)
		}
		if n == 0 && (!s.follow || r.State.Terminal() || !wait(ctx, s.refresh)) {
			return nil
		}
	}
}

// interrupted returns err, or nil if it is because the person who follows has seen enough.
func (s *session) interrupted(ctx context.Context, err error) error {
	if s.follow {
		return ignoreInterrupt(ctx, err)
	}
	return err
}
