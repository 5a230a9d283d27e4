//go:build unix

package main

import (
	"context"
	"errors"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stint-dev/stint/internal/torture/disk"
	"github.com/stint-dev/stint/store"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if becomeChild() {
		return
	}
	goleak.VerifyTestMain(m)
}

// long says that the attacks take minutes: "make torture", as CI does.
var long = flag.Bool("long", false, "each attack as often as its short form in the command says, not a few times")

// TestAttacks is a taste of each attack, or with -long the command's short form of it.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			count := a.brief
			if !*long {
				count = a.taste
			}
			if count == 0 {
				t.Log("only with -long")
				return
			}
			if _, err := findLitestream(); a.name == "litestream" && err != nil {
				t.Log(err) // CI installs it
				return
			}
			r := newRound(t.TempDir(), uint64(time.Now().UnixNano()), count, 0)
			err := a.within(t.Context(), shortLimit, r)
			if why := (errNoServer{}); errors.As(err, &why) {
				t.Skip(why)
			}
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d %s; %q", r.faults, a.what, r.notes)
		})
	}
}

// An attack that waits for what does not come fails, and says what it waited for.
func TestAttackEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time passes only when it waits
		waits := attack{name: "waits", run: func(ctx context.Context, _ *round) error {
			waitForGodot(ctx)
			return nil
		}}
		err := waits.within(t.Context(), time.Millisecond, newRound(t.TempDir(), 1, 1, 0))
		if err == nil || !strings.Contains(err.Error(), "waitForGodot") {
			t.Errorf("got %v, want an error that names waitForGodot", err)
		}
		quick := attack{name: "quick", run: func(context.Context, *round) error { return nil }}
		if err := quick.within(t.Context(), time.Hour, newRound(t.TempDir(), 1, 1, 0)); err != nil {
			t.Error(err)
		}
	})
}

//go:noinline
func waitForGodot(ctx context.Context) { <-ctx.Done() }

// A program that does not wait for the disk loses what it acknowledged, and the checks
// say so: the power is cut right after an acknowledgement, until one is lost.
func TestChecksSeeLoss(t *testing.T) {
	r := newRound(t.TempDir(), 1, 0, 0)
	dir := r.dir("normal")
	rec := disk.Record(dir)
	book := &ledger{at: rec.Len}
	if err := busyFor(t.Context(), filepath.Join(dir, "shop.db"), book, 200*time.Millisecond, true); err != nil {
		t.Fatal(err)
	}
	ops, d := rec.Stop(), disk.NewDisk()
	for _, a := range book.acks {
		d.Forward(ops, a.at)
		if err := r.image(t.Context(), d, a.at, book.acks, false); err != nil {
			t.Fatal(err)
		}
		if r.verdict.Lost > 0 {
			return
		}
	}
	t.Errorf("nothing was found to be lost after %d acknowledgements", len(book.acks))
}

// The history of a store that gives one run to two is refused.
func TestHistoryIsChecked(t *testing.T) {
	id := store.ID{1}
	op := func(at int64, c call) porcupine.Operation {
		c.run = id
		return porcupine.Operation{Input: c, Call: at, Return: at + 1}
	}
	good := []porcupine.Operation{op(0, call{verb: "enqueue"}), op(2, call{verb: "claim", lease: 1}),
		op(4, call{verb: "finish", lease: 1, to: store.Succeeded, did: true})}
	if !porcupine.CheckOperations(runModel, good) {
		t.Error("a good history was refused")
	}
	for _, bad := range []call{{verb: "claim", lease: 1}, {verb: "finish", lease: 1, to: store.Succeeded, did: true},
		{verb: "get", state: store.Queued}, {verb: "cancel", did: true}} {
		if porcupine.CheckOperations(runModel, append(good[:3:3], op(6, bad))) {
			t.Errorf("took %+v after the end", bad)
		}
	}
}
