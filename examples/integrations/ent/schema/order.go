// Package schema says what ent generates.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// An Order is a row of the app's.
type Order struct{ ent.Schema }

func (Order) Fields() []ent.Field { return []ent.Field{field.String("item")} }
