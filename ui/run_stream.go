package ui

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/stint-dev/stint"
)

// maxStreamChunks is the number of chunks of a stream on a page, beside maxStreamBytes.
const maxStreamChunks = 5000

// A streamView is a part of a run's stream: its end, or what is before a chunk.
type streamView struct {
	parts    []streamPart
	from, to int64 // the chunks shown
	last     int64 // of the whole; 0: nothing was streamed
	cut      bool  // the first chunk shown is not whole
}

// A streamPart is what one execution of a run has streamed.
type streamPart struct {
	first, last stint.Chunk // without their data
	text        string
}

// sameStart reports whether both chunks are of one execution.
func sameStart(a, b *stint.Chunk) bool { return a.Attempt == b.Attempt && a.Execution == b.Execution }

// loadStream reads the end of the run's stream, or with the field before what is before that chunk.
func loadStream(h *handler, ctx context.Context, v *runView) error {
	before, err := intParam(v.query, "before", 0)
	if err != nil {
		return err
	}
	end, err := h.c.Chunks(ctx, v.ID, -1, 1)
	if err != nil || len(end) == 0 {
		return err
	}
	s := &v.stream
	s.last, s.to = end[0].Seq, end[0].Seq
	if before > 1 {
		s.to = min(int64(before)-1, s.last)
	}
	shown, margin, err := h.chunksUpTo(ctx, v.ID, s)
	if err != nil || len(shown) == 0 {
		return err
	}
	after, err := h.streamAfter(ctx, v.ID, &shown[len(shown)-1])
	if err != nil {
		return err
	}
	for len(shown) > 0 {
		n := slices.IndexFunc(shown, func(c stint.Chunk) bool { return !sameStart(&c, &shown[0]) })
		if n < 0 {
			s.parts = append(s.parts, h.streamPartOf(v.Task, margin, shown, after))
			break
		}
		s.parts = append(s.parts, h.streamPartOf(v.Task, margin, shown[:n], nil))
		shown, margin = shown[n:], nil
	}
	return nil
}

// chunksUpTo reads the chunks up to s.to that the page has room for, and a part of what the first one's execution streamed
// before them.
func (h *handler) chunksUpTo(ctx context.Context, id string, s *streamView) (shown []stint.Chunk, margin []byte, err error) {
	var all []stint.Chunk
	size := 0
	for n := int64(16); size < 2*maxStreamBytes && len(all) < 2*maxStreamChunks && int64(len(all)) < s.to; n *= 2 {
		to := s.to - int64(len(all))
		var some []stint.Chunk
		for from := max(to-n, 0); from < to; {
			page, err := h.c.Chunks(ctx, id, from, int(to-from))
			if err != nil || len(page) == 0 { // deleted meanwhile
				return nil, nil, err
			}
			for i := range page {
				size += len(page[i].Data)
			}
			some, from = append(some, page...), page[len(page)-1].Seq
		}
		all = append(some, all...)
	}
	room, i := maxStreamBytes, len(all)
	for i > 0 && len(all)-i < maxStreamChunks && (i == len(all) || len(all[i-1].Data) <= room) {
		i--
		room -= len(all[i].Data)
	}
	first := &all[i]
	for j := range all[:i] {
		if sameStart(&all[j], first) {
			margin = append(margin, all[j].Data...)
		}
	}
	s.from, s.cut = first.Seq, room < 0
	if s.cut { // it is larger than the page
		margin, first.Data = append(margin, first.Data[:-room]...), first.Data[-room:]
	}
	return all[i:], margin[max(len(margin)-maxStreamBytes, 0):], nil
}

// streamAfter reads a part of what the execution of a chunk has streamed after it.
func (h *handler) streamAfter(ctx context.Context, id string, c *stint.Chunk) (after []byte, err error) {
	next, err := h.c.Chunks(ctx, id, c.Seq, 16)
	for i := range next {
		if sameStart(&next[i], c) {
			after = append(after, next[i].Data[:min(len(next[i].Data), maxStreamBytes)]...)
		}
	}
	return after, err
}

// streamPartOf returns the text of chunks. It is redacted with what is before and after it, so that a secret that lies over
// a border is not seen; what is shown of its neighbors for that reason is redacted, too.
func (h *handler) streamPartOf(task string, before []byte, chunks []stint.Chunk, after []byte) streamPart {
	var text []byte
	for i := range chunks {
		text = append(text, chunks[i].Data...)
	}
	p := streamPart{first: chunks[0], last: chunks[len(chunks)-1]}
	p.first.Data, p.last.Data = nil, nil
	whole := h.redactText("stream", task, string(before)+string(text)+string(after))
	var ok bool
	if p.text, ok = strings.CutPrefix(whole, h.redactText("stream", task, string(before))); !ok {
		p.text = whole[min(len(before)/2, len(whole)):] // what is before may begin within a secret
	}
	p.text = strings.TrimSuffix(p.text, h.redactText("stream", task, string(after)))
	for n := 0; n < utf8.UTFMax && p.text != "" && !utf8.RuneStart(p.text[0]); n++ {
		p.text = p.text[1:]
	}
	return p
}

func showStream(h *handler, v *runView) node {
	s := &v.stream
	if s.last == 0 {
		return emptyState("Nothing. Handlers stream with ", code("stint.Stream(ctx, chunk)"), ".")
	}
	part := row(
		when(s.from > 1, h.link(v.at(v.tab.name, "before", strconv.FormatInt(s.from, 10)), attr("class", "btn"), "Older chunks")),
		when(s.to < s.last, h.link(v.at(v.tab.name), attr("class", "btn"), "Newest chunks")),
		el("span.dim", fmt.Sprintf("Chunks %s to %s of %s", formatCount(s.from), formatCount(s.to), formatCount(s.last)),
			when(s.cut, ", of the first only the end")))
	return group(when(s.from > 1 || s.to < s.last || s.cut, part), each(s.parts, func(p streamPart) node {
		return el("section.stream", h2(fmt.Sprintf("Attempt %d", p.first.Attempt), when(p.first.Execution != p.first.Attempt,
			fmt.Sprintf(", execution %d", p.first.Execution)), " ", el("small.dim", timestamp(p.first.At),
			when(p.last.At.After(p.first.At), " to ", timestamp(p.last.At)))), pre(p.text))
	}))
}
