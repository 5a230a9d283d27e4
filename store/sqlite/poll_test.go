package sqlite

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// Where a day is over in an instant, an idle file is not looked at five times a second of it:
// a month would be 13 million looks.
func TestPollsGrowApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(filepath.Join(t.TempDir(), "a.db"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if s.w.pollBackoff != pollBackoffMax {
			t.Errorf("after a day the next look is %v away, want %v", s.w.pollBackoff, pollBackoffMax)
		}
	})
}

// A file that was just opened is looked at as often as any other: nothing is known of the clock yet.
func TestFirstPollIsSoon(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "a.db"), Options{})
	defer s.Close()
	w := s.w
	w.turn.Lock()
	defer w.turn.Unlock()
	w.polled, w.polledWorld, w.pollBackoff = time.Time{}, 0, 0
	w.adaptPolling(time.Now())
	if w.pollBackoff != 0 {
		t.Errorf("the next look is %v away", w.pollBackoff)
	}
}
