package stint

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/stint-dev/stint/internal/jsonx"
)

// A Codec encodes inputs and outputs. What it writes must be JSON. What its errors say, and
// those of methods like UnmarshalJSON, may quote the value, so the library's errors have their
// types and the field alone; errors.As finds them where the call itself failed.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// WithCodec sets how inputs and outputs are encoded. The default is encoding/json.
func WithCodec(codec Codec) ClientOption {
	return clientOption(func(c *clientConfig) error {
		if codec == nil {
			return errors.New("stint: WithCodec(nil): want a codec")
		}
		c.codec = codec
		return nil
	})
}

// encode encodes v on the host's goroutine: if that calls the app's code, where its panic
// is an error.
func (c *Client) encode(v any) ([]byte, error) {
	if c.encodesPlainly(reflect.TypeOf(v)) {
		return c.marshal(v)
	}
	var b []byte // here, as what a closure sets is allocated
	err := guarded(func() (err error) {
		b, err = c.marshal(v)
		return err
	})
	return b, err
}

// decode decodes b, as encode encodes.
func (c *Client) decode(b []byte, v any) error {
	if c.encodesPlainly(reflect.TypeOf(v)) {
		return c.unmarshal(b, v)
	}
	return guarded(func() error { return c.unmarshal(b, v) })
}

// marshal encodes v where a panic is caught already: in a handler, or in guarded.
func (c *Client) marshal(v any) ([]byte, error) {
	b, err := c.cfg.codec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", valueError(vet(err), func(err error) error { return jsonx.EncodeError(err, reflect.TypeOf(v)) }))
	}
	if len(b) > c.cfg.maxPayload {
		return nil, fmt.Errorf("%d bytes encoded: want at most %d (WithMaxPayload)", len(b), c.cfg.maxPayload)
	}
	if _, own := c.cfg.codec.(jsonCodec); !own && !json.Valid(b) {
		return nil, errors.New("the codec made something that is not JSON")
	}
	return b, nil
}

// marshalAs is marshal of a value that will be decoded as a T. If that is an interface with
// methods, like error, a decoder does not know what to make: an error here, not when it is read.
func marshalAs[T any](c *Client, v T) ([]byte, error) {
	b, err := c.marshal(v)
	if t := reflect.TypeFor[T](); err == nil && t.Kind() == reflect.Interface && t.NumMethod() > 0 && any(v) != nil {
		if err := c.unmarshal(b, new(T)); err != nil {
			return nil, fmt.Errorf("a %T can be stored, but not read again as a %v, an interface with methods: want a type that is none: %w", v, t, err)
		}
	}
	return b, err
}

// unmarshal decodes b where a panic is caught already.
func (c *Client) unmarshal(b []byte, v any) error {
	if len(b) == 0 {
		return errors.New("decode: empty")
	}
	return valueError(vet(c.cfg.codec.Unmarshal(b, v)), func(err error) error {
		text := b
		if _, ok := c.cfg.codec.(jsonCodec); !ok {
			text = nil
		}
		return jsonx.DecodeError(err, text, reflect.TypeOf(v).Elem())
	})
}

// valueError makes the error of a codec, which was vetted, one that does not quote the value.
// A panic stays what it is.
func valueError(err error, from func(error) error) error {
	if _, ok := err.(*appError); !ok {
		return err
	}
	return from(original(err))
}

// decodesUnchanged reports whether the value that v points to is what would be decoded of its
// encoding, which spares that.
func (c *Client) decodesUnchanged(v any) bool {
	if _, ok := c.cfg.codec.(jsonCodec); !ok {
		return false
	}
	switch v := v.(type) {
	case *bool, *int, *int8, *int16, *int32, *int64, *uint, *uint8, *uint16, *uint32, *uint64, *float32, *float64, *struct{}:
		return true
	case *string:
		return utf8.ValidString(*v)
	}
	return false
}

// encodesPlainly reports whether no code of the app's is called to encode or decode a t, so
// that a goroutine for it, 0.5 µs, is spared.
func (c *Client) encodesPlainly(t reflect.Type) bool {
	if _, ok := c.cfg.codec.(jsonCodec); !ok {
		return false
	}
	if t == nil {
		return true
	}
	if known, ok := plainTypes.Load(t); ok {
		return known.(bool)
	}
	plain := isPlain(t, map[reflect.Type]bool{})
	plainTypes.Store(t, plain)
	return plain
}

var plainTypes sync.Map // reflect.Type to bool

var ownJSON = []reflect.Type{
	reflect.TypeFor[json.Marshaler](), reflect.TypeFor[json.Unmarshaler](),
	reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
}

// isPlain reports whether encoding/json finds no method on t, nor on what it is made of. A
// value in an interface may have any. seen are types that are being looked at.
func isPlain(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return true
	}
	seen[t] = true
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[json.RawMessage](), reflect.TypeFor[json.Number]():
		return true
	}
	for _, m := range ownJSON {
		if t.Implements(m) || reflect.PointerTo(t).Implements(m) {
			return false
		}
	}
	switch t.Kind() {
	case reflect.Interface:
		return false
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return isPlain(t.Elem(), seen)
	case reflect.Map:
		return isPlain(t.Key(), seen) && isPlain(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if strings.Contains(f.Tag.Get("json"), "omitzero") || !isPlain(f.Type, seen) { // omitzero calls a method IsZero
				return false
			}
		}
	}
	return true
}
