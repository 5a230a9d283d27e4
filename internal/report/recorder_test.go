package report

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stint-dev/stint/store"
)

// kept is a Store that keeps records in memory.
type kept struct {
	mu      sync.Mutex
	records []store.Record
	err     error // of every call
}

func (k *kept) Record(_ context.Context, rs []store.Record) ([]bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.records = append(k.records, rs...)
	}
	return make([]bool, len(rs)), k.err
}

func (k *kept) all() []store.Record {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.records)
}

func (k *kept) lines() (n int) {
	for _, r := range k.all() {
		n += len(r.Logs)
	}
	return n
}

// newReports returns the reports of an execution, and what they log.
func newReports(k *kept) (*Reports, *bytes.Buffer) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, nil))
	return &Reports{Recorder: NewRecorder(k, func() *slog.Logger { return l }), Run: &store.Claimed{ID: store.ID{1}, Lease: 7}}, &out
}

// start starts the Recorder of an execution.
func start(t *testing.T, r *Reports) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Recorder.Run(ctx, func() iter.Seq[*Reports] { return slices.Values([]*Reports{r}) })
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// What is reported gathers for a while; then one record has it, for the run and its lease.
func TestRecorderGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		r, _ := newReports(k)
		start(t, r)
		r.SetProgress(func(p *store.Progress) { p.Done = 1 })
		r.SetProgress(func(p *store.Progress) { p.Total = 2 })
		r.Log(t.Context(), line(1000))
		r.Log(t.Context(), line(1000))
		synctest.Wait()
		if len(k.all()) != 0 {
			t.Errorf("%d records are stored at once, want none", len(k.all()))
		}
		time.Sleep(recordEvery)
		synctest.Wait()
		if len(k.all()) != 1 {
			t.Fatalf("%d records are stored, want 1", len(k.all()))
		}
		want := store.Progress{Done: 1, Total: 2}
		if got := k.all()[0]; got.ID != r.Run.ID || got.Lease != r.Run.Lease || *got.Progress != want || len(got.Logs) != 2 {
			t.Errorf("got %+v", got)
		}
		if p := r.Progress(); p != want {
			t.Errorf("the progress is %+v after it was stored", p)
		}
	})
}

// A line waits while a portion is unstored, and what exceeds it is stored portion by portion, in order.
func TestLogWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		r, _ := newReports(k)
		start(t, r)
		began := time.Now()
		const portions = 4
		for i := range 2*portions - 1 {
			l := line(Portion / 2)
			l.Attempt = i
			r.Log(t.Context(), l)
		}
		if waited, want := time.Since(began), (portions-1)*recordEvery; waited != want {
			t.Errorf("the lines waited %v, want %v", waited, want)
		}
		last, first := r.Close(t.Context())
		if !first || len(last.Logs) != 1 || k.lines() != 2*portions-2 {
			t.Errorf("the last record has %d lines and %d are stored, want 1 and %d", len(last.Logs), k.lines(), 2*portions-2)
		}
		for i, rec := range append(k.all(), last) {
			for j, l := range rec.Logs {
				if want := 2*i + j; l.Attempt != want {
					t.Errorf("record %d has line %d, want %d", i, l.Attempt, want)
				}
			}
		}
	})
}

// Nothing stores: a line waits no longer than the patience, and others not at all. Nor does one whose context is done.
func TestLogLosesPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newReports(&kept{})
		began := time.Now()
		r.Log(t.Context(), line(Portion))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the first line waited %v", waited)
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		r.Log(done, line(Portion))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("a line waited %v though its context was done", waited)
		}
		for range 3 {
			r.Log(t.Context(), line(Portion))
		}
		if waited := time.Since(began); waited != patience {
			t.Errorf("three lines waited %v, want %v", waited, patience)
		}
		if len(r.unstored.logs) != 5 {
			t.Errorf("%d lines are kept, want all 5", len(r.unstored.logs))
		}
	})
}

// Close stores what exceeds a portion and gives the rest, once. A line that waits then is dropped, and so are later ones.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		r, _ := newReports(k)
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			r.Log(done, line(Portion))
		}
		r.Log(done, line(1000))
		r.SetProgress(func(p *store.Progress) { p.Done = 3 })
		if r.Closed() {
			t.Error("it is closed before Close")
		}
		last, first := r.Close(done)
		if !first || !r.Closed() || len(last.Logs) != 1 || k.lines() != 3 {
			t.Errorf("first %v, %d lines in the last record, %d stored, want true, 1, 3", first, len(last.Logs), k.lines())
		}
		if len(k.all()) != 3 || k.all()[0].Progress == nil || last.Progress != nil || last.ID != r.Run.ID || last.Lease != r.Run.Lease {
			t.Errorf("got the records %v and %v", len(k.all()), last)
		}
		r.Log(t.Context(), line(1000))
		if again, first := r.Close(t.Context()); first || again.Logs != nil || r.flush(t.Context()) || len(k.all()) != 3 {
			t.Errorf("after Close there are a record of %d lines and %d stored records", len(again.Logs), len(k.all()))
		}
	})
}

// A line that waits for room is dropped when the reports are closed meanwhile.
func TestCloseEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kept{}
		r, _ := newReports(k)
		r.Log(t.Context(), line(Portion))
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { r.Log(t.Context(), line(1000)) })
		synctest.Wait()
		last, _ := r.Close(t.Context())
		wg.Wait()
		if waited := time.Since(began); waited != 0 || k.lines() != 1 || len(last.Logs) > 1 {
			t.Errorf("it waited %v, %d lines are stored, %d in the last record", waited, k.lines(), len(last.Logs))
		}
	})
}

// Where the store fails, the outcome still gets a portion: the newest. Somebody is told, unless the store is closed.
func TestCloseWithoutStore(t *testing.T) {
	for _, test := range []struct {
		err  error
		told bool
	}{{errors.New("disk full"), true}, {store.ErrClosed, false}} {
		r, out := newReports(&kept{err: test.err})
		done, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 4 {
			l := line(Portion)
			l.Attempt = i
			r.Log(done, l)
		}
		last, first := r.Close(done)
		if !first || len(last.Logs) != 1 || last.Logs[0].Attempt != 3 {
			t.Errorf("%v: the last record has %d lines, want the newest", test.err, len(last.Logs))
		}
		if told := bytes.Contains(out.Bytes(), []byte("storing progress and logs")); told != test.told {
			t.Errorf("%v: told %v, want %v: %s", test.err, told, test.told, out)
		}
	}
}

// A line of a program elsewhere is refused without an attempt or with attributes that are no object, and cut else.
func TestNewLine(t *testing.T) {
	for _, bad := range []store.Log{{}, {Attempt: 1, Attrs: []byte("[1]")}, {Attempt: 1, Attrs: []byte("{")}} {
		if _, err := NewLine(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	attrs := []byte(`{"a":1}`)
	got, err := NewLine(store.Log{Attempt: 2, Message: string(make([]byte, 2*MaxMessage)), Attrs: attrs})
	if err != nil || len(got.Message) > MaxMessage || string(got.Attrs) != string(attrs) || &got.Attrs[0] == &attrs[0] {
		t.Errorf("got %d bytes, %s, %v", len(got.Message), got.Attrs, err)
	}
	for _, none := range []string{"", "{}", "null"} {
		if got, err := NewLine(store.Log{Attempt: 1, Attrs: []byte(none)}); err != nil || got.Attrs != nil {
			t.Errorf("%q: got %s, %v, want none", none, got.Attrs, err)
		}
	}
}
