package jsonx_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/internal/jsonx"
)

const secret = "S3CR3T"

type picky struct{ s string }

var errPicky = errors.New("picky")

func (p *picky) UnmarshalJSON(b []byte) error { return fmt.Errorf("%w about %s", errPicky, b) }
func (p picky) MarshalJSON() ([]byte, error)  { return nil, fmt.Errorf("%w about %s", errPicky, p.s) }

type level int

func (l *level) UnmarshalText(b []byte) error {
	n, err := strconv.Atoi(string(b))
	*l = level(n)
	return err
}

type item struct {
	Count int8
	Until time.Time  `json:"until"`
	Level level      `json:"level"`
	Text  string     `json:"text"`
	Picky *picky     `json:"picky"`
	Price int        `json:"price,string"`
	Sub   *item      `json:"sub"`
	List  [3]float64 `json:"list"`
	Bytes []byte
}

type order struct {
	ID    int
	Items []item `json:"items"`
	ByKey map[string]item
	ByInt map[int]bool
	item
}

// The text of an error says where and what type, whatever was in the way, and nothing of it.
func TestDecodeError(t *testing.T) {
	for text, want := range map[string]string{
		`{"items": [{}, {"Count": 4111}]}`:                       "type int8 at items[1].Count: has a JSON number that it cannot hold",
		`{"items": [{"until": "S3CR3T"}]}`:                       "type time.Time at items[0].until: has a text that is no time",
		`{"items": [{"level": "S3CR3T"}]}`:                       "type jsonx_test.level at items[0].level: has a text that is no number",
		`{"items": [{"level": "99999999999999999999411"}]}`:      "type jsonx_test.level at items[0].level: has a number that it cannot hold",
		`{"items": [{"text": ["S3CR3T"]}]}`:                      "type string at items[0].text: has a JSON array",
		`{"items": [{"picky": "S3CR3T"}]}`:                       "type jsonx_test.picky at items[0].picky: decoding failed with a *fmt.wrapError",
		`{"items": [{"price": "S3CR3T"}]}`:                       "type int at items[0].price: decoding failed with a *errors.errorString",
		`{"items": [{"sub": {"sub": {"list": [1, "S3CR3T"]}}}]}`: "type float64 at items[0].sub.sub.list[1]: has a JSON string",
		`{"items": [{"Bytes": "S3CR3T!"}]}`:                      "type []uint8 at items[0].Bytes: decoding failed with a base64.CorruptInputError",
		`{"ByKey": {"S3CR3T": {"count": "S3CR3T"}}}`:             "type int8 at ByKey[*].Count: has a JSON string",
		`{"ByInt": {"S3CR3T": true}}`:                            "type map[int]bool at ByInt: has a JSON number that it cannot hold",
		`{"until": "S3CR3T"}`:                                    "type time.Time at until: has a text that is no time",
		`{"S3CR3T": 1, "ID": "S3CR3T"}`:                          "type int at ID: has a JSON string",
		`"S3CR3T"`:                                               "type jsonx_test.order: has a JSON string",
		`S3CR3T`:                                                 "type jsonx_test.order: JSON syntax error at byte 1",
		`{"ID": S3CR3T}`:                                         "type jsonx_test.order: JSON syntax error at byte 8",
		``:                                                       "type jsonx_test.order: JSON syntax error at byte 0",
	} {
		err := json.Unmarshal([]byte(text), new(order))
		if err == nil {
			t.Fatalf("%s decodes", text)
		}
		got := jsonx.DecodeError(err, []byte(text), reflect.TypeFor[order]())
		if got.Error() != want {
			t.Errorf("%s: %v\nwant %s", text, got, want)
		}
		if got := jsonx.DecodeError(err, nil, reflect.TypeFor[order]()).Error(); strings.Contains(got, secret) || strings.Contains(got, "4111") {
			t.Errorf("%s, without its text: %s", text, got)
		}
		if !errors.Is(got, err) {
			t.Errorf("%s: the error of the decoder is lost", text)
		}
	}
	err := jsonx.DecodeError(json.Unmarshal([]byte(`"x"`), new(time.Time)), []byte(`"x"`), reflect.TypeFor[time.Time]())
	if p := (*time.ParseError)(nil); !errors.As(err, &p) || err.Error() != "type time.Time: has a text that is no time" {
		t.Errorf("%v has no *time.ParseError", err)
	}
	deep := strings.Repeat(`{"sub":`, 100) + `{"count":"S3CR3T"}` + strings.Repeat("}", 100)
	if got := jsonx.DecodeError(json.Unmarshal([]byte(deep), new(item)), []byte(deep), reflect.TypeFor[item]()).Error(); strings.Contains(got, secret) || len(got) > 200 {
		t.Errorf("deep: %s", got)
	}
}

func TestEncodeError(t *testing.T) {
	_, err := json.Marshal([]any{picky{secret}})
	got := jsonx.EncodeError(err, reflect.TypeFor[[]any]())
	if got.Error() != "type jsonx_test.picky: its own method failed with a *fmt.wrapError" || !errors.Is(got, errPicky) {
		t.Errorf("%v", got)
	}
	_, err = json.Marshal(json.Number(secret))
	if got := jsonx.EncodeError(err, reflect.TypeFor[json.Number]()); strings.Contains(got.Error(), secret) {
		t.Errorf("%v", got)
	}
	for _, v := range []any{make(chan int), math.NaN()} {
		_, err := json.Marshal(v)
		if got := jsonx.EncodeError(err, reflect.TypeOf(v)); got != err {
			t.Errorf("%v, want %v", got, err)
		}
	}
}

// No text, decoded into anything, comes back in the error.
func FuzzDecodeError(f *testing.F) {
	for _, s := range []string{`{"items":[{"until":"%s"}]}`, `{"ByKey":{"%s":{"picky":"%[1]s"}}}`, `"%s"`, `{"%s`, `%s`, `{"sub":{"price":"%s"},"ByInt":{"%[1]s":1}}`} {
		f.Add(strings.ReplaceAll(strings.ReplaceAll(s, "%[1]s", secret), "%s", secret))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if text = strings.ReplaceAll(text, "S", secret); !strings.Contains(text, secret) {
			return
		}
		for _, v := range []any{new(order), new([]item), new(map[level]picky), new(any), new(time.Time), new(int)} {
			if err := json.Unmarshal([]byte(text), v); err != nil {
				if got := jsonx.DecodeError(err, []byte(text), reflect.TypeOf(v).Elem()).Error(); strings.Contains(got, secret) {
					t.Errorf("%q: %s", text, got)
				}
			}
		}
	})
}
