package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stint-dev/stint/store"
)

func (m *Model) changeSetting(c *store.SettingChange) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.unlock()
	had := m.settings[c.Key]
	switch {
	case c.IfMissing && had != nil:
		c.Stored = bytes.Clone(had)
		return nil
	case c.Value == nil:
		delete(m.settings, c.Key)
	default:
		m.settings[c.Key] = append([]byte{}, c.Value...)
	}
	c.Stored = c.Value
	return nil
}

func (m *Model) listSettings(prefix, after string, limit int) (all []store.Setting, more bool, err error) {
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
	set := func(key, value string, ifMissing bool, want string) {
		s.Helper()
		c := store.SettingChange{Setting: store.Setting{Key: key, Value: []byte(value)}, IfMissing: ifMissing}
		s.ok(s.change(&c))
		if got := c.Stored; string(got) != want || got == nil {
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
	none := store.SettingChange{Setting: store.Setting{Key: "none"}, IfMissing: true}
	if s.ok(s.change(&none)); none.Stored != nil {
		s.Errorf("what was not there and is not set: %q", none.Stored)
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
		s.ok(s.change(&store.SettingChange{Setting: store.Setting{Key: key}}))
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
		list := read(s, &store.SettingList{Prefix: prefix, After: after, Limit: limit})
		all, rest := list.Settings, list.More
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
