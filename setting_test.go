package stint_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stint-dev/stint"
)

func TestSettings(t *testing.T) {
	c, ctx := opened(t), t.Context()
	if v, err := c.Setting(ctx, "secret"); !errors.Is(err, stint.ErrNotFound) || !strings.Contains(err.Error(), `"secret"`) {
		t.Errorf("before it is set: %q, %v", v, err)
	}
	for _, v := range [][]byte{[]byte("one"), {}, {0, 255}, bytes.Repeat([]byte("x"), stint.MaxSetting)} {
		if err := c.SetSetting(ctx, "secret", v); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Setting(ctx, "secret"); err != nil || !bytes.Equal(got, v) {
			t.Errorf("%d bytes: got %d, %v", len(v), len(got), err)
		}
	}
	if err := c.SetSetting(ctx, "secret", make([]byte, stint.MaxSetting+1)); err == nil || !strings.Contains(err.Error(), "1048576") {
		t.Errorf("too large: %v", err)
	}
	for _, key := range []string{"", strings.Repeat("k", 256), "\xff"} {
		_, err := c.Setting(ctx, key)
		if err == nil || errors.Is(err, stint.ErrNotFound) || c.SetSetting(ctx, key, []byte("v")) == nil {
			t.Errorf("key %q: %v", key, err)
		}
	}
	for _, key := range []string{"worker/1", "worker/2", "workers"} {
		if err := c.SetSetting(ctx, key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	all, err := c.Settings(ctx, "worker/")
	if keys := slices.Sorted(maps.Keys(all)); err != nil || fmt.Sprint(keys) != "[worker/1 worker/2]" || string(all["worker/2"]) != "worker/2" {
		t.Errorf("%q, %v", all, err)
	}
	if err := c.SetSetting(ctx, "worker/1", nil); err != nil {
		t.Fatal(err)
	}
	if all, err := c.Settings(ctx, ""); err != nil || len(all) != 3 {
		t.Errorf("%d left, %v", len(all), err)
	}
}

// Of all who want a key to have a value, one gives it that, and the others get that too.
func TestEnsureSettingIsSetOnce(t *testing.T) {
	c := opened(t)
	var wg sync.WaitGroup
	got := make([]string, 20)
	for i := range got {
		wg.Go(func() {
			v, err := c.EnsureSetting(t.Context(), "token", fmt.Append(nil, i))
			if err != nil {
				t.Error(err)
			}
			got[i] = string(v)
		})
	}
	wg.Wait()
	stored := string(must[[]byte](t)(c.Setting(t.Context(), "token")))
	if same := slices.Compact(got); len(same) != 1 || same[0] != stored {
		t.Errorf("%q, and stored is %q", same, stored)
	}
	if v, err := c.EnsureSetting(t.Context(), "empty", nil); err != nil || v == nil || len(v) > 0 {
		t.Errorf("a value without bytes: %v, %v", v, err)
	}
}
