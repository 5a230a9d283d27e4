package postgres

import (
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"
)

// An arrayCodec encodes arrays whose Go type is []T. A group's rows are arrays of a column each (columns.go), and pgx encodes
// arrays of any type element by element, through interfaces, into a buffer that it grows for each. What is of another type, and
// what is read, is left to pgx.
type arrayCodec[T any] struct {
	pgtype.Codec
	element uint32 // its OID
	value   func(T) (size int, null bool)
	put     func([]byte, T) []byte
}

// registerArrays makes those of a connection be encoded by arrayCodec.
func registerArrays(m *pgtype.Map) {
	register(m, pgtype.Int8ArrayOID, pgtype.Int8OID, func(int64) (int, bool) { return 8, false },
		func(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) })
	register(m, pgtype.Int2ArrayOID, pgtype.Int2OID, func(int16) (int, bool) { return 2, false },
		func(b []byte, n int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(n)) })
	for array, element := range map[uint32]uint32{pgtype.ByteaArrayOID: pgtype.ByteaOID, pgtype.TextArrayOID: pgtype.TextOID} {
		register(m, array, element, func(x []byte) (int, bool) { return len(x), x == nil },
			func(b, x []byte) []byte { return append(b, x...) })
	}
}

func register[T any](m *pgtype.Map, array, element uint32, value func(T) (int, bool), put func([]byte, T) []byte) {
	if t, ok := m.TypeForOID(array); ok {
		m.RegisterType(&pgtype.Type{Name: t.Name, OID: array, Codec: &arrayCodec[T]{t.Codec, element, value, put}})
	}
}

// PlanEncode implements pgtype.Codec.
func (c *arrayCodec[T]) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.([]T); ok && format == pgtype.BinaryFormatCode {
		return c
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

// Encode implements pgtype.EncodePlan. A nil slice is NULL, and so is a nil element.
func (c *arrayCodec[T]) Encode(value any, b []byte) ([]byte, error) {
	all := value.([]T)
	if all == nil {
		return nil, nil
	}
	size, nulls := 20+4*len(all), uint32(0)
	for _, x := range all {
		n, null := c.value(x)
		size += n
		if null {
			nulls = 1
		}
	}
	b = slices.Grow(b, size)
	for _, n := range [...]uint32{1, nulls, c.element, uint32(len(all)), 1} { // one dimension, which begins at 1
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, x := range all {
		n, null := c.value(x)
		if null {
			b = binary.BigEndian.AppendUint32(b, ^uint32(0))
			continue
		}
		b = c.put(binary.BigEndian.AppendUint32(b, uint32(n)), x)
	}
	return b, nil
}
