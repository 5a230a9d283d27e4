package postgres

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"
)

// Arrays are encoded as pgx encodes them.
func TestArraysAreEncodedAsByPgx(t *testing.T) {
	theirs := pgtype.NewMap()
	ours := pgtype.NewMap()
	registerArrays(ours)
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 20), 0, 5).Draw(t, "texts")
		for i := range texts {
			if rapid.Bool().Draw(t, "null") {
				texts[i] = nil
			}
		}
		var none []int64
		for _, c := range []struct {
			oid   uint32
			value any
		}{
			{pgtype.Int8ArrayOID, rapid.SliceOfN(rapid.Int64(), 0, 5).Draw(t, "numbers")},
			{pgtype.Int8ArrayOID, none},
			{pgtype.Int2ArrayOID, rapid.SliceOfN(rapid.Int16(), 0, 5).Draw(t, "small")},
			{pgtype.ByteaArrayOID, texts},
			{pgtype.TextArrayOID, texts},
			{pgtype.TextArrayOID, []string{"a", ""}},
		} {
			before := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "before")
			want, err := theirs.Encode(c.oid, pgtype.BinaryFormatCode, c.value, bytes.Clone(before))
			got, gotErr := ours.Encode(c.oid, pgtype.BinaryFormatCode, c.value, bytes.Clone(before))
			if err != nil || gotErr != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%d, %v: %x, %v, want %x, %v", c.oid, c.value, got, gotErr, want, err)
			}
		}
	})
}
