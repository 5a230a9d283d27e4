package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
)

// SetSetting implements store.Settings.
func (m *Model) SetSetting(_ context.Context, x store.Setting, ifMissing bool) ([]byte, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.unlock()
	had := m.settings[x.Key]
	switch {
	case ifMissing && had != nil:
		return bytes.Clone(had), nil
	case x.Value == nil:
		delete(m.settings, x.Key)
		return nil, nil
	}
	m.settings[x.Key] = append([]byte{}, x.Value...)
	return x.Value, nil
}

// Settings implements store.Settings.
func (m *Model) Settings(_ context.Context, prefix, after string, limit int) (all []store.Setting, more bool, err error) {
	if err := m.lock(); err != nil {
		return nil, false, err
	}
	defer m.unlock()
	for _, key := range slices.Sorted(maps.Keys(m.settings)) {
		if strings.HasPrefix(key, prefix) && key > after {
			all = append(all, store.Setting{Key: key, Value: bytes.Clone(m.settings[key])})
		}
	}
	all, more = firstPage(all, limit, (*store.Setting).Size)
	return all, more, nil
}

func settings(s *suite) {
	ctx := s.Context()
	set := func(key, value string, ifMissing bool, want string) {
		s.Helper()
		got, err := s.SetSetting(ctx, store.Setting{Key: key, Value: []byte(value)}, ifMissing)
		s.ok(err)
		if string(got) != want || got == nil {
			s.Errorf("setting %q is %q, want %q", key, got, want)
		}
	}
	set("a/1", "one", false, "one")
	set("a/1", "two", true, "one")
	set("a/1", "three", false, "three")
	set("a/2", "", true, "")
	set("a/2", "late", true, "") // a value without bytes is one
	set("b", "\x00\xff", false, "\x00\xff")
	set("a", "first", true, "first")
	set("a0", "after all of a/", false, "after all of a/")
	if got, err := s.SetSetting(ctx, store.Setting{Key: "none"}, true); err != nil || got != nil {
		s.Errorf("what was not there and is not set: %q, %v", got, err)
	}
	if _, ok := s.Store.(*Model); !ok {
		s.reopen()
	}
	for _, tt := range []struct{ prefix, after, want string }{
		{"", "", "[a=first a/1=three a/2= a0=after all of a/ b=\x00\xff]"}, {"a/", "", "[a/1=three a/2=]"}, {"a/", "a/1", "[a/2=]"},
		{"a/1", "", "[a/1=three]"}, {"a/", "b", "[]"}, {"b", "a", "[b=\x00\xff]"}, {"c", "", "[]"},
	} {
		for _, limit := range []int{1, 2, 10} {
			if got := pageAll(s, tt.prefix, tt.after, limit); got != tt.want {
				s.Errorf("settings %q after %q, by %d: %s, want %s", tt.prefix, tt.after, limit, got, tt.want)
			}
		}
	}
	for _, key := range []string{"a/1", "a/1", "never"} {
		_, err := s.SetSetting(ctx, store.Setting{Key: key}, false)
		s.ok(err)
	}
	if got, want := pageAll(s, "a", "", 1), "[a=first a/2= a0=after all of a/]"; got != want {
		s.Errorf("after a delete: %s, want %s", got, want)
	}
}

// pageAll reads all pages of settings.
func pageAll(s *suite, prefix, after string, limit int) string {
	s.Helper()
	texts := []string{}
	for more := true; more; {
		all, rest, err := s.Settings(s.Context(), prefix, after, limit)
		s.ok(err)
		if len(all) > limit || rest && len(all) == 0 {
			s.Fatalf("a page of %d settings, and more: %v", len(all), rest)
		}
		for _, x := range all {
			texts, after = append(texts, fmt.Sprintf("%s=%s", x.Key, x.Value)), x.Key
		}
		more = rest
	}
	return fmt.Sprint(texts)
}
