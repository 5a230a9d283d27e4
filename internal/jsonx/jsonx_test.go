package jsonx_test

import (
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/stint-dev/stint/internal/jsonx"
)

// Texts of one value have one form; others have another.
func TestCanonical(t *testing.T) {
	huge := strings.Repeat("9", 5000)
	for _, same := range [][]string{
		{"10", "10.0", "1e1", "1E+1", "100e-1", "0.1e2", " 10 "},
		{"0", "-0", "0.0", "-0.0e5", "0e999999999999999999999"},
		{"9007199254740992"}, {"9007199254740993", "9007199254740993.0", "9.007199254740993e15"},
		{"-1", "-1.0"}, {"0.1", "1e-1", "0.10"}, {"0.10000000000000000001"}, {"123.456", "123456e-3"},
		{"1e999999999", "10e999999998", "0.1e1000000000"}, {"1e999999998"}, {"1e-999999999"},
		{"1e99999999999999999999999", "10e99999999999999999999998"}, {"1e-99999999999999999999999"},
		{"1e40", "1" + strings.Repeat("0", 40)}, {"1e41"}, {"1e-40"}, {"1e-41"},
		{huge, huge + ".0", huge + "0e-1"}, {huge + "0"},
		{`"10"`, `"\u0031\u0030"`}, {`"<"`, `"\u003c"`}, {`""`}, {"null"}, {"true"}, {"false"},
		{`[1,2]`, `[1.0, 2]`}, {`[2,1]`}, {`[]`}, {`{}`}, {`[12]`},
		{`{"a":1,"b":[1e1]}`, `{ "b":[10], "a":1.0 }`, `{"a":2,"b":[10],"a":1}`},
	} {
		want, ok := jsonx.Canonical([]byte(same[0]))
		if !ok || len(want) > len(same[0])+50 {
			t.Errorf("%.50s: %.100s, %v", same[0], want, ok)
		}
		for _, text := range same {
			if got, ok := jsonx.Canonical([]byte(text)); !ok || got != want {
				t.Errorf("%.50s is %.50s, %v; want %.50s", text, got, ok, want)
			}
		}
		if by := forms[want]; by != "" {
			t.Errorf("%.50s and %.50s are both %.50s", by, same[0], want)
		}
		forms[want] = same[0]
	}
	for _, text := range []string{"", "1 2", "01", "+1", ".5", "1.", "NaN", "{", "nul", `{"a":1}}`} {
		if got, ok := jsonx.Canonical([]byte(text)); ok {
			t.Errorf("%q is %q", text, got)
		}
	}
}

var forms = map[string]string{}

func TestInteger(t *testing.T) {
	for text, want := range map[string]string{
		"10.0": "10", "1e3": "1000", "-9223372036854775808": "-9223372036854775808", "18446744073709551616": "18446744073709551616",
		"1e999999999": "whole", "1.5": "", "1e-999999999": "", "15e-1": "", "0.0": "0",
	} {
		n, ok, whole := jsonx.Integer(text)
		if got := map[bool]string{true: "whole"}[whole]; !ok && got != want || ok && n.String() != want {
			t.Errorf("%s: %v, %v, %v", text, n, ok, whole)
		}
	}
}

// Two numbers have one form exactly if they are equal, and the form is a number.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"10", "10.0", "1e1", "-0", "9007199254740993", "1e999999999", "0.001e-3", "123.4500e2"} {
		f.Add(s, "1E1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !number(a) || !number(b) {
			return
		}
		x, y := jsonx.Number(a), jsonx.Number(b)
		if !json.Valid([]byte(x)) || jsonx.Number(x) != x {
			t.Fatalf("%s becomes %s, and that %s", a, x, jsonx.Number(x))
		}
		if len(x) > len(a)+50 {
			t.Fatalf("%s grows to %d bytes", a, len(x))
		}
		m, ok := rational(a)
		n, fine := rational(b)
		if ok && fine && (m.Cmp(n) == 0) != (x == y) {
			t.Fatalf("%s is %s, %s is %s", a, x, b, y)
		}
		if r, ok := rational(x); ok && m != nil && r.Cmp(m) != 0 {
			t.Fatalf("%s becomes %s", a, x)
		}
	})
}

func number(s string) bool {
	return s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') && s == strings.TrimSpace(s) && json.Valid([]byte(s))
}

// rational is a number, unless its exponent is too large to compute with.
func rational(number string) (*big.Rat, bool) {
	if i := strings.IndexAny(number, "eE"); i >= 0 && len(number)-i > 5 {
		return nil, false
	}
	return new(big.Rat).SetString(number)
}
