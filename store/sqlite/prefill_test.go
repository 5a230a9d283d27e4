package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// The file of the log is never more than twice as large as what is in it, and at most 1 MiB ahead; it is not filled for a few commits, nor
// where the log is about to begin anew, nor again at once after a fill has failed.
func TestPrefillSizes(t *testing.T) {
	const frame = 4096 + frameHeader
	for _, first := range []int{1, 100, 3000} {
		p, fills, appends := prefill{frame: frame, first: -1}, 0, 0
		for frames := first; frames < checkpointFrames+100; frames += 2 {
			used := int64(logHeader + frames*frame)
			if used > p.size {
				p.size = used
				appends++
			}
			to := p.wants(frames)
			if to == 0 {
				continue
			}
			fills++
			ahead, wrote := to-used, int64(frames-first)*frame
			if ahead > mostFill+4096 || ahead > wrote+4096 || wrote < leastFill || to <= p.size || frames >= checkpointFrames {
				t.Fatalf("%d of %d frames, %d bytes: to %d", frames-first, frames, p.size, to)
			}
			p.size = to
		}
		if fills == 0 || fills > 40 || appends > 60 {
			t.Errorf("from %d on: %d fills, and %d commits that appended", first, fills, appends)
		}
		if p.wants(2); p.size != 0 || p.first != 0 {
			t.Errorf("the log has begun anew: %+v", p)
		}
	}
	p := prefill{frame: frame, first: 0}
	if p.wants(20) == 0 {
		t.Error("20 frames: nothing is filled")
	}
	if p.failed(); p.wants(20) != 0 || p.wants(35) != 0 || p.wants(36) == 0 {
		t.Error("after a fill that failed, want another after 16 frames")
	}
	if (&prefill{}).wants(1000) != 0 {
		t.Error("no prefill, and it wants one")
	}
}

func openAt(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func enqueueOne(t testing.TB, s *Store) {
	t.Helper()
	if _, err := s.Enqueue(context.Background(), time.Now(), []store.NewRun{{Task: "t", Queue: "q"}}); err != nil {
		t.Fatal(err)
	}
}

// fill lets the writer's work be done: it fills the log if that is short.
func fill(s *Store) { s.w.work() }

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Most commits of a new file overwrite bytes of its log; with DurabilityNormal, whose commits sync nothing, all append.
func TestCommitsOverwriteTheLog(t *testing.T) {
	for _, normal := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "a.db")
		s := openAt(t, path, Options{Normal: normal})
		const commits = 300
		grew := 0
		for range commits {
			fill(s)
			before := sizeOf(t, path+"-wal")
			enqueueOne(t, s)
			s.w.turn.Lock() // the goroutine may be filling it
			if s.w.conn.Frames()*(4096+frameHeader) > int(before) {
				grew++
			}
			s.w.turn.Unlock()
		}
		if got, used := sizeOf(t, path+"-wal"), s.w.conn.Frames()*(4096+frameHeader); !normal && got > int64(2*used+4096) {
			t.Errorf("the log has %d bytes, of which %d are used", got, used)
		}
		if normal && grew < commits || !normal && grew > commits/10 {
			t.Errorf("normal %v: %d of %d commits appended to the log", normal, grew, commits)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a log remains: %v", err)
		}
	}
}

// What is there when a process is killed, before or after the log was filled, has all that was acknowledged.
func TestKilledWithFilledLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s := openAt(t, path, Options{})
	defer s.Close()
	for n := range 60 {
		enqueueOne(t, s)
		if n%3 == 0 {
			fill(s)
		}
		image := filepath.Join(t.TempDir(), "a.db")
		for _, end := range []string{"", "-wal"} {
			data, err := os.ReadFile(path + end)
			if err := errors.Join(err, os.WriteFile(image+end, data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		next := openAt(t, image, Options{})
		all, _, err := next.List(t.Context(), store.Filter{}, store.ID{}, 1000)
		if err != nil || len(all) != n+1 {
			t.Errorf("%d runs, %v; want %d", len(all), err, n+1)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Two stores and an app write to one file and fill its log, while checkpoints truncate it: nothing is lost.
func TestFillAmongStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a, b := openAt(t, path, Options{}), openAt(t, path, Options{})
	defer a.Close()
	defer b.Close()
	var wg sync.WaitGroup
	const each = 150
	for _, s := range []*Store{a, b} {
		wg.Go(func() {
			for range each {
				enqueueOne(t, s)
				fill(s)
			}
		})
	}
	app, err := a.connect(a.fileDSN(map[string][]string{"_pragma": {pragma("busy_timeout", 30_000)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if _, err := app.Exec("CREATE TABLE app (n INTEGER PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	for i := range each {
		_, err := app.Exec("INSERT INTO app VALUES (NULL)")
		if i%20 == 0 {
			_, e := app.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
			err = errors.Join(err, e)
		}
		if err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	var rows int
	if err := app.QueryRow("SELECT count(*) FROM app").Scan(&rows); err != nil || rows != each {
		t.Errorf("%d rows of the app, %v", rows, err)
	}
	all, _, err := a.List(t.Context(), store.Filter{}, store.ID{}, 1000)
	if err != nil || len(all) != 2*each {
		t.Errorf("%d runs, %v; want %d", len(all), err, 2*each)
	}
	if found, err := Check(t.Context(), path); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}

// A store syncs the log by fdatasync on Linux, of a new file and of one that was there.
func TestStoreSyncsData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	for _, opts := range []Options{{}, {}, {Normal: true}} {
		s := openAt(t, path, opts)
		enqueueOne(t, s)
		if got := s.write.SyncsData(); got != (runtime.GOOS == "linux") {
			t.Errorf("%v on %s", got, runtime.GOOS)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
