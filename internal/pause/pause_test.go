package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !For(t.Context(), time.Hour) || time.Since(began) != time.Hour {
			t.Errorf("it waited for %v, want an hour", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if !For(ctx, 0) || !For(ctx, -1) {
			t.Error("no time: the context was done first")
		}
		if For(ctx, time.Hour) || time.Since(began) != time.Hour+time.Minute {
			t.Errorf("with a context that ends after a minute it waited for %v", time.Since(began)-time.Hour)
		}
		if For(ctx, 0) {
			t.Error("no time, and a context that was done: it did not say so")
		}
	})
}
