package postgres

import (
	"cmp"

	"github.com/stint-dev/stint/store"
)

var settingStatements = newStatements("settings", 1, "FOR UPDATE",
	text("key", func(r *store.Setting) *string { return &r.Key }),
	col("value", "bytea", func(r *store.Setting) *[]byte { return &r.Value }))

func settingRows() *relation[string, store.Setting] {
	return newRelation(settingStatements, cmp.Compare[string], func(r *store.Setting) string { return r.Key },
		func(key string) store.Setting { return store.Setting{Key: key} })
}
