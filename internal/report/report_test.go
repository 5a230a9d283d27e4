package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stint-dev/stint/store"
)

func line(size int) store.Log {
	return store.Log{Message: strings.Repeat("a", size-lineOverhead)}
}

// A record has the newest progress once, and a portion of the lines, in order.
func TestTake(t *testing.T) {
	var u Unstored
	if r := u.Take(); r.Progress != nil || r.Logs != nil {
		t.Errorf("nothing was reported: got %+v", r)
	}
	u.SetProgress(func(p *store.Progress) { p.Done = 1 })
	u.SetProgress(func(p *store.Progress) { p.Total = 2 })
	for range 5 {
		u.Add(line(Portion / 2))
	}
	r := u.Take()
	if r.Progress == nil || *r.Progress != (store.Progress{Done: 1, Total: 2}) || len(r.Logs) != 2 || !u.Full() {
		t.Errorf("got progress %v and %d lines, want 1 of 2 and 2 lines", r.Progress, len(r.Logs))
	}
	if r := u.Take(); r.Progress != nil || len(r.Logs) != 2 || u.Full() || u.Empty() {
		t.Errorf("got progress %v and %d lines, want none and 2 lines", r.Progress, len(r.Logs))
	}
	if r := u.Take(); len(r.Logs) != 1 || !u.Empty() {
		t.Errorf("got %d lines, want the last", len(r.Logs))
	}
}

// Lines wait for room only while a portion is unstored, and not after one has waited in vain.
func TestRoom(t *testing.T) {
	var u Unstored
	if u.Room() != nil {
		t.Error("nothing is unstored, and a line waits")
	}
	u.Add(line(Portion))
	room := u.Room()
	if room == nil || u.Room() != room {
		t.Fatal("a portion is unstored, and no line waits")
	}
	u.Take()
	<-room
	u.Add(line(Portion))
	u.InVain(room) // of a room that came
	if room = u.Room(); room == nil {
		t.Error("no line waits, though none waited in vain")
	}
	u.InVain(room)
	if u.Room() != nil {
		t.Error("a line waits after another waited in vain")
	}
	u.Take()
	u.Add(line(Portion))
	if u.Room() == nil {
		t.Error("no line waits after lines were taken")
	}
}

// What is too much is dropped from the oldest line on.
func TestDrop(t *testing.T) {
	var u Unstored
	for range maxUnstored/Portion + 3 {
		u.Add(line(Portion))
	}
	if len(u.logs) != maxUnstored/Portion || u.size != maxUnstored {
		t.Errorf("%d lines of %d bytes are kept, want %d", len(u.logs), u.size, maxUnstored)
	}
	u.Add(store.Log{Message: "last"})
	u.DropExcess()
	if len(u.logs) != 1 || u.logs[0].Message != "last" {
		t.Errorf("%d lines are kept, want the last", len(u.logs))
	}
}

// Chunks of more than a portion wait for those before them.
func TestChunks(t *testing.T) {
	s := NewChunks()
	first, err := s.Acquire(t.Context(), Portion-ChunkUnit)
	if err != nil {
		t.Fatal(err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Acquire(done, 1); err != context.Canceled {
		t.Errorf("no room, and the context is done: got %v", err)
	}
	first()
	second, err := s.Acquire(t.Context(), 10*Portion) // one larger chunk goes alone
	if err != nil {
		t.Fatal(err)
	}
	second()
	if len(s.tokens) != 0 {
		t.Errorf("%d units are taken, want none", len(s.tokens))
	}
}

func plain(f func() error) error { return f() }

// A handler keeps what the app's own leaves out, with the attributes of all levels as JSON.
func TestLogHandler(t *testing.T) {
	var out bytes.Buffer
	var kept []string
	base := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})
	l := slog.New(NewLogHandler(base, plain, func(r slog.Record, attrs []byte) {
		kept = append(kept, r.Message+" "+string(attrs))
	}))
	l.Debug("debug")
	l.Info("bare")
	l.With("a", 1).WithGroup("g").Warn("grouped", "b", "x")
	want := []string{"bare ", `grouped {"a":1,"g":{"b":"x"}}`}
	if strings.Join(kept, "\n") != strings.Join(want, "\n") {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if s := out.String(); strings.Contains(s, "bare") || !strings.Contains(s, "grouped") {
		t.Errorf("the app's handler has %q", s)
	}
}

// A value that cannot be encoded costs its line the attributes, not the message.
func TestBadAttribute(t *testing.T) {
	kept := ""
	failed := errors.New("panic in MarshalJSON")
	l := NewLogHandler(slog.DiscardHandler, func(f func() error) error { f(); return failed },
		func(r slog.Record, attrs []byte) { kept = r.Message + string(attrs) })
	r := slog.Record{Message: "m"}
	r.AddAttrs(slog.Int("a", 1))
	if err := l.Handle(t.Context(), r); !errors.Is(err, failed) || kept != "m" {
		t.Errorf("kept %q, and got %v", kept, err)
	}
}

func TestCutAttrs(t *testing.T) {
	long, _ := json.Marshal(map[string]string{"a": strings.Repeat("x", MaxAttrs)})
	got, err := cutAttrs(long)
	if err != nil || len(got) > 2<<10 || !json.Valid(got) {
		t.Errorf("got %d bytes, %v, want a short object", len(got), err)
	}
	if got, _ := cutAttrs([]byte(`{"a":1}`)); string(got) != `{"a":1}` {
		t.Errorf("a short object became %s", got)
	}
}
