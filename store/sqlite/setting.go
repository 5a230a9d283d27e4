package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/reading"
)

// SetSetting implements store.Settings.
func (s *Store) SetSetting(ctx context.Context, x store.Setting, ifMissing bool) (value []byte, err error) {
	err = s.do(ctx, func(u *unit) error {
		if ifMissing {
			err := u.one("SELECT value FROM stint_settings WHERE key = ?", []any{x.Key}, &value)
			if !errors.Is(err, sql.ErrNoRows) {
				value = append([]byte{}, value...) // it is not nil
				return err
			}
		}
		if value = x.Value; value == nil {
			return u.exec("DELETE FROM stint_settings WHERE key = ?", x.Key)
		}
		return u.exec("INSERT INTO stint_settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
			x.Key, value)
	})
	return value, err
}

// Settings implements store.Settings.
func (s *Store) Settings(ctx context.Context, prefix, after string, limit int) (all []store.Setting, more bool, err error) {
	err = s.view(ctx, func(q querier) error {
		all, more, err = reading.Settings(q, prefix, after, limit)
		return err
	})
	return all, more, err
}
