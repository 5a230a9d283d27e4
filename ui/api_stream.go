package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/internal/wire"
)

func getStream(h *handler, ctx context.Context, in url.Values) (any, error) {
	info, after, limit, err := h.runPart(ctx, in)
	if err != nil {
		return nil, err
	}
	chunks, err := h.c.Chunks(ctx, info.ID, int64(after), limit)
	out := wireStream{Chunks: []wireChunk{}, Next: int64(max(after, 0))}
	for i := range chunks {
		out.Chunks = append(out.Chunks, h.wireChunkOf(info.Task, &chunks[i]))
	}
	out.Chunks = out.Chunks[:fitAnswer(out.Chunks)]
	if n := len(out.Chunks); n > 0 {
		out.Next = out.Chunks[n-1].Seq
	}
	return out, err
}

func (h *handler) wireChunkOf(task string, c *stint.Chunk) wireChunk {
	return wire.ChunkOf(c, h.redactText("stream", task, string(c.Data)))
}

// followStream sends a run's stream as server-sent events: for each chunk one named "chunk", whose id is its number, and
// "end" when the run has ended. Who was cut off sends the last id, as browsers do by themselves, and gets what follows it.
func (h *handler) followStream(w http.ResponseWriter, r *http.Request, in url.Values) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		in.Set("after", id)
	}
	info, after, _, err := h.runPart(r.Context(), in)
	if err != nil {
		h.writeError(w, r, statusOf(err), err)
		return
	}
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		client = r.RemoteAddr
	}
	if status, err := h.live.admit(client); err != nil {
		h.writeError(w, r, status, err)
		return
	}
	defer h.live.release(client)
	ctx, stop := h.live.requestContext(r)
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := newSlowWriter(w)
	out.ctrl.SetWriteDeadline(time.Time{}) // the server's own deadline is for answers that end
	if out.flush() != nil {
		return
	}
	for c, err := range stint.RunByID[any](h.c, info.ID).Chunks(ctx, int64(after)) {
		if err == nil {
			err = h.sendChunk(out, info.Task, &c)
		}
		if err != nil {
			return // the client asks again
		}
	}
	fmt.Fprint(out, "event: end\ndata: {}\n\n")
	out.flush()
}

func (h *handler) sendChunk(out *slowWriter, task string, c *stint.Chunk) error {
	data, err := json.Marshal(h.wireChunkOf(task, c))
	if err != nil {
		return err
	}
	if !h.sendBudget.reserve(len(data)) {
		return errOverloaded
	}
	defer h.sendBudget.release(len(data))
	if _, err := fmt.Fprintf(out, "event: chunk\nid: %d\ndata: %s\n\n", c.Seq, data); err != nil {
		return err
	}
	return out.flush()
}

// streamPath is the operation whose answer may be server-sent events.
const streamPath = "/api/runs/{id}/stream"

// wantsEvents reports whether a request is for server-sent events.
func wantsEvents(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}
