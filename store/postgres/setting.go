package postgres

import (
	"cmp"
	"context"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

var settingStatements = newStatements("settings", 1, "FOR UPDATE",
	text("key", func(r *store.Setting) *string { return &r.Key }),
	col("value", "bytea", func(r *store.Setting) *[]byte { return &r.Value }))

func settingRows() *relation[string, store.Setting] {
	return newRelation(settingStatements, cmp.Compare[string], func(r *store.Setting) string { return r.Key },
		func(key string) store.Setting { return store.Setting{Key: key} })
}

// SetSetting implements store.Settings.
func (s *Store) SetSetting(ctx context.Context, x store.Setting, ifMissing bool) (value []byte, err error) {
	err = s.do(ctx, func(u *unit) error {
		had, err := u.settings.get(x.Key)
		switch {
		case err != nil:
			return err
		case ifMissing && had != nil:
			value = had.Value
			return nil
		case x.Value == nil:
			u.settings.remove(x.Key)
		default:
			u.settings.put(x.Key, x)
		}
		value = x.Value
		return nil
	})
	return value, err
}

// Settings implements store.Settings.
func (s *Store) Settings(ctx context.Context, prefix, after string, limit int) (all []store.Setting, more bool, err error) {
	err = s.reads(ctx, func(_ *reading.Reader, q reading.Querier) error {
		all, more, err = reading.Settings(q, prefix, after, limit)
		return err
	})
	return all, more, err
}
