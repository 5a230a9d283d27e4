// Package jsonx reads JSON without rounding its numbers, and writes the one form of a
// value by which values are compared. A number there is exact, whatever its size and
// however it was written: 10, 10.0 and 1e1 are one value, 9007199254740992 and
// 9007199254740993 are two.
package jsonx

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Decode returns the value of a JSON text, as json.Unmarshal into an any does, but with
// its numbers as json.Number, as they are written.
func Decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("text after the JSON value, at byte %d", d.InputOffset())
	}
	return v, nil
}

// Strings returns the strings of a JSON text, names of members too, without escapes.
func Strings(text []byte) (all []string) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			for k, x := range v {
				all = append(all, k)
				walk(x)
			}
		}
	}
	v, _ := Decode(text) // of what is no JSON there are none
	walk(v)
	return all
}

// Canonical returns the one form of a JSON text's value: texts are equal exactly if their
// values are. Fields are sorted, and numbers are as Number writes them. ok is false if
// text is not JSON.
func Canonical(text []byte) (s string, ok bool) {
	if v, err := Decode(text); err == nil {
		return string(appendValue(nil, v)), true
	}
	return "", false
}

func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case json.Number:
		return append(b, Number(string(v))...)
	case []any:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendValue(b, x)
		}
		return append(b, ']')
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendValue(b, name), ':')
			b = appendValue(b, v[name])
		}
		return append(b, '}')
	}
	text, _ := json.Marshal(v) // a text, true, false or null always encodes
	return append(b, text...)
}

// plainDigits is the highest number of digits of a number that is written without an exponent.
const plainDigits = 40

// Number returns the one form of a JSON number. One with at most 40 digits before the
// point, and as many behind, is written without an exponent: "10", "0.25"; others as
// "1e41", "25e-42". The result is never much longer than text, whatever its exponent.
func Number(text string) string {
	digits, exponent, negative := parts(text)
	sign := ""
	if negative {
		sign = "-"
	}
	if digits == "" {
		return "0"
	}
	e, err := strconv.Atoi(exponent)
	switch n := len(digits); {
	case err != nil || n > plainDigits || e > plainDigits-n || e < -plainDigits:
		return sign + digits + "e" + exponent
	case e >= 0:
		return sign + digits + strings.Repeat("0", e)
	case n > -e:
		return sign + digits[:n+e] + "." + digits[n+e:]
	default:
		return sign + "0." + strings.Repeat("0", -e-n) + digits
	}
}

// Integer returns the value of a JSON number that is an integer of at most 40 digits. ok
// is false of others; whole reports whether the number is an integer of any size.
func Integer(text string) (n *big.Int, ok, whole bool) {
	s := Number(text)
	if n, ok = new(big.Int).SetString(s, 10); ok && len(s) <= plainDigits+1 {
		return n, true, true
	}
	digits, exponent, _ := parts(text)
	return nil, false, digits == "" || !strings.HasPrefix(exponent, "-")
}

// parts splits a JSON number into its digits, without zeros at either end, and the power
// of ten that they are multiplied by. Zero has no digits.
func parts(text string) (digits, exponent string, negative bool) {
	text, negative = strings.CutPrefix(text, "-")
	mantissa, exponent := text, "0"
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], strings.TrimPrefix(text[i+1:], "+")
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = strings.TrimLeft(whole+fraction, "0")
	shift := -len(fraction) + len(digits)
	digits = strings.TrimRight(digits, "0")
	if digits == "" {
		return "", "0", false
	}
	return digits, addText(exponent, shift-len(digits)), negative
}

// addText adds n to an integer that may have any number of digits.
func addText(integer string, n int) string {
	if len(integer) < 18 {
		if e, err := strconv.Atoi(integer); err == nil {
			return strconv.Itoa(e + n)
		}
	}
	e, ok := new(big.Int).SetString(integer, 10)
	if !ok {
		return integer // no JSON number
	}
	return e.Add(e, big.NewInt(int64(n))).String()
}
