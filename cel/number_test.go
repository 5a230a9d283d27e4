package cel_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stint-dev/stint"
	"github.com/stint-dev/stint/store"
)

// Numbers of a payload in expressions: integers are exact, and mix with doubles.
func TestExactNumbers(t *testing.T) {
	for _, tc := range []struct {
		expr, payload string
		want          bool
	}{
		{`input.id == 9007199254740993`, `{"id":9007199254740993}`, true},
		{`input.id == 9007199254740993`, `{"id":9007199254740992}`, false},
		{`input.id == 9007199254740993`, `{"id":9007199254740992.5}`, false},
		{`input.id != 9007199254740993`, `{"id":9007199254740992}`, true},
		{`input.id > 9007199254740992`, `{"id":9007199254740993}`, true},
		{`9007199254740992 < input.id`, `{"id":9007199254740993}`, true},
		{`input.id == 9007199254740992.0`, `{"id":9007199254740993}`, false},
		{`9007199254740992.0 == input.id`, `{"id":9007199254740993}`, false},
		{`input.id > 9007199254740992.0`, `{"id":9007199254740993}`, true},
		{`input.a == input.b`, `{"a":9007199254740993,"b":9007199254740992}`, false},
		{`input.a == input.b`, `{"a":9007199254740993,"b":9007199254740993.0}`, true},
		{`input.id in [9007199254740993]`, `{"id":9007199254740993}`, true},
		{`input.id in [9007199254740993]`, `{"id":9007199254740992}`, false},
		{`9007199254740993 in input.ids`, `{"ids":[9007199254740992]}`, false},
		{`9007199254740993 in input.ids`, `{"ids":[1,9007199254740993]}`, true},
		{`input.id in [9007199254740992.0]`, `{"id":9007199254740993}`, false},
		{`input.id in [9007199254740992.0]`, `{"id":9007199254740992}`, true},
		{`9007199254740992.0 in input.ids`, `{"ids":[9007199254740993]}`, false},
		{`input.id in {9007199254740992: true}`, `{"id":9007199254740993}`, false},
		{`input.id in {9007199254740993: true}`, `{"id":9007199254740993.0}`, true},
		{`"a" in input`, `{"a":null}`, true},
		{`"b" in input`, `{"a":null}`, false},
		{`"a" in input.a`, `{"a":"abc"}`, false}, // a text holds no values
		{`input.ids == [9007199254740992.0]`, `{"ids":[9007199254740993]}`, false},
		{`input.ids == [9007199254740993, 2.0]`, `{"ids":[9007199254740993, 2]}`, true},
		{`input.ids != [9007199254740992.0]`, `{"ids":[9007199254740993]}`, true},
		{`[input.ids] == [[9007199254740992.0]]`, `{"ids":[9007199254740993]}`, false},
		{`input == {"a": {"id": 9007199254740992.0}}`, `{"a":{"id":9007199254740993}}`, false},
		{`input == {"a": {"id": 9007199254740992.0}}`, `{"a":{"id":9007199254740992}}`, true},
		{`input == {"b": 1}`, `{"a":1}`, false},
		{`input.ids == [1, 2]`, `{"ids":[1]}`, false},
		{`input.ids == [5]`, `{"ids":[18446744073709551616]}`, false}, // does not fit
		{`input.ids != [5]`, `{"ids":[18446744073709551616]}`, false},
		{`input == {"a": 5}`, `{"a":1e999999999}`, false},
		{`5 in input.ids`, `{"ids":[18446744073709551616]}`, false},
		{`5 in input.ids`, `{"ids":[18446744073709551616, 5]}`, true},
		{`input.id == 18446744073709551615u`, `{"id":18446744073709551615}`, true},
		{`input.id == 18446744073709551615u`, `{"id":18446744073709551614}`, false},
		{`input.id == -9223372036854775808`, `{"id":-9223372036854775808}`, true},
		{`input.id > 1`, `{"id":18446744073709551616}`, false}, // does not fit
		{`input.id != 1`, `{"id":18446744073709551616}`, false},
		{`input.id > 1.5`, `{"id":1e999999999}`, false},
		{`input > 1`, `18446744073709551616`, false},
		{`input.ok`, `{"id":1e999999999999999999999,"ok":true}`, true}, // not read
		{`input.n == 0`, `{"n":1e-999999999}`, false},
		{`input.n == 1`, `{"n":1.00000000000000000000001}`, false},
		{`string(input.id) == "12345678"`, `{"id":12345678}`, true},
		{`string(input.id) == "9007199254740993"`, `{"id":9007199254740993}`, true},
		{`input.n == 10`, `{"n":10}`, true},
		{`input.n == 10`, `{"n":10.0}`, true},
		{`input.n == 10`, `{"n":1e1}`, true},
		{`input.n == 10.0`, `{"n":10}`, true},
		{`input.n == 0`, `{"n":-0.0}`, true},
		{`input.x > 1.5`, `{"x":2}`, true},
		{`input.x > 1`, `{"x":1.5}`, true},
		{`input.x == 0.1`, `{"x":0.1}`, true},
		{`input.x * 1.5 == 3.0`, `{"x":2}`, true},
		{`1.5 * input.x == 3.0`, `{"x":2}`, true},
		{`input.x + 1 == 3`, `{"x":2}`, true},
		{`input.x - 0.5 == 1.5`, `{"x":2}`, true},
		{`input.x % 2 == 1`, `{"x":9007199254740993}`, true},
		{`input.a / input.b == 2.5`, `{"a":10,"b":4}`, true},
		{`input.a / input.b > 100.0`, `{"a":10,"b":0}`, true}, // as of doubles
		{`input.a / 2.0 > 4.9`, `{"a":10}`, true},
		{`input.a + input.b > 2.5`, `{"a":1,"b":2}`, true},
		{`input.a + input.b == 9007199254740993`, `{"a":9007199254740992,"b":1}`, true},
		{`input.a + input.b > 0`, `{"a":18446744073709551615,"b":1}`, false},
		{`input.a + input.b == 9223372036854775808u`, `{"a":9223372036854775807,"b":1}`, true},
		{`input.a + input.b == "xy"`, `{"a":"x","b":"y"}`, true},
		{`input.a + input.b == [1,2]`, `{"a":[1],"b":[2]}`, true},
		{`input.a < input.b`, `{"a":"x","b":"y"}`, true},
		{`input.a == input.b`, `{"a":{"x":1},"b":{"x":1.0}}`, true},
		{`input.a == "1"`, `{"a":1}`, false},
		{`input.a < "1"`, `{"a":1}`, false},
		{`-input.a == -1`, `{"a":1}`, true},
		{`size(input.l) / 2 == 1`, `{"l":[1,2,3]}`, true}, // CEL's own integers are as they were
		{`input.l[input.i] == 7`, `{"l":[5,7],"i":1}`, true},
		{`input.l.exists(x, x == 5)`, `{"l":[18446744073709551616,5]}`, true},
		{`input.l.map(x, x * 2.0).exists(x, x == 10.0)`, `{"l":[5]}`, true},
	} {
		if got, err := stint.MatchFilter(tc.expr, "k", json.RawMessage(tc.payload)); err != nil || got != tc.want {
			t.Errorf("%s of %s: %v, %v", tc.expr, tc.payload, got, err)
		}
	}
}

// A key of a webhook that is made of an ID has all of its digits, or is an error.
func TestExactKeys(t *testing.T) {
	key, err := store.CompileKey(`"order." + string(input.id)`)
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]string{
		`{"id":12345678}`: "order.12345678", `{"id":9007199254740993}`: "order.9007199254740993",
		`{"id":1.5}`: "order.1.5", `{"id":"x"}`: "order.x", `{"id":18446744073709551616}`: "",
	} {
		if got, err := key(&store.NewEvent{Payload: []byte(payload)}, nil); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", payload, got, err)
		}
	}
}

// An expression compares any two numbers exactly, or not at all.
func FuzzExactNumbers(f *testing.F) {
	for _, s := range []string{"0", "-0", "1", "9007199254740992", "9007199254740993", "9.007199254740993e15", "1e999999999", "0.1", "1.5", "18446744073709551615"} {
		f.Add(s, "9007199254740993")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		payload := fmt.Sprintf(`{"a":%s,"b":%s}`, a, b)
		if !json.Valid([]byte(payload)) {
			return
		}
		x, ok := rational(a)
		y, fine := rational(b)
		less, err := stint.MatchFilter("input.a < input.b", "k", json.RawMessage(payload))
		if err != nil || !ok || !fine {
			return
		}
		equal, _ := stint.MatchFilter("input.a == input.b", "k", json.RawMessage(payload))
		more, _ := stint.MatchFilter("input.a > input.b", "k", json.RawMessage(payload))
		known := less || equal || more
		if !known || !x.IsInt() || !y.IsInt() { // fractions are doubles
			return
		}
		if c := x.Cmp(y); less != (c < 0) || equal != (c == 0) || more != (c > 0) {
			t.Errorf("%s: less %v, equal %v, more %v", payload, less, equal, more)
		}
	})
}

// rational returns a number, unless its exponent is too large to compute with.
func rational(number string) (*big.Rat, bool) {
	if i := strings.IndexAny(number, "eE"); i >= 0 && len(number)-i > 4 {
		return nil, false
	}
	return new(big.Rat).SetString(number)
}
