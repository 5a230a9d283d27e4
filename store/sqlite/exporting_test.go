package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// A value of a row is read as it was written.
func TestExportedValues(t *testing.T) {
	for _, tt := range []struct {
		kind, want string
		value      any
	}{
		{"INTEGER", "9223372036854775807", int64(math.MaxInt64)}, {"REAL", "0.1", 0.1}, {"REAL", `{"real":"+Inf"}`, math.Inf(1)},
		{"REAL", "3", 3.0}, {"TEXT", `"<ä>\u0000"`, "<ä>\x00"}, {"TEXT", `{"text64":"YYA="}`, "a\x80"}, {"TEXT", `""`, ""},
		{"BLOB", `{"json":{"to":"<ann>"}}`, []byte(`{"to":"<ann>"}`)}, {"BLOB", `{"json":null}`, []byte("null")},
		{"BLOB", `{"text":"{ }"}`, []byte("{ }")}, {"BLOB", `{"text":""}`, []byte{}}, {"BLOB", `{"base64":"AID/"}`, []byte{0, 128, 255}},
	} {
		line := appendValue(nil, tt.value)
		if string(line) != tt.want || !json.Valid(line) {
			t.Errorf("%v is written as %s, want %s", tt.value, line, tt.want)
		}
		if got, err := importValue(line, tt.kind); err != nil || !reflect.DeepEqual(got, tt.value) {
			t.Errorf("%s is read as %#v, %v; want %#v", line, got, err, tt.value)
		}
	}
	for _, wrong := range []struct{ kind, text string }{{"INTEGER", `"1"`}, {"BLOB", `"x"`}, {"BLOB", `{}`}, {"TEXT", "1"}, {"REAL", "{}"}} {
		if got, err := importValue(json.RawMessage(wrong.text), wrong.kind); err == nil {
			t.Errorf("%s is read as %s: %#v", wrong.text, wrong.kind, got)
		}
	}
}

// A file that is not a whole export makes no database.
func TestImportRefuses(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	path := filepath.Join(dir, "new.db")
	s, err := Open(filepath.Join(dir, "app.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	failing(t)(s.Change(ctx, time.Now(), &store.SettingChange{Setting: store.Setting{Key: "k", Value: []byte("v")}}))
	var b bytes.Buffer
	if _, err := s.Export(ctx, &b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	lines := strings.SplitAfter(text, "\n")
	for what, tt := range map[string]struct{ text, want string }{
		"cut":     {strings.Join(lines[:len(lines)-2], ""), "cut off"},
		"half":    {text[:len(text)-20], "cut off"},
		"less":    {lines[0] + lines[len(lines)-2], "says at its end"},
		"other":   {`{"runs":[]}` + "\n", "no stint_export"},
		"empty":   {"", "EOF"},
		"version": {strings.Replace(text, `"stint_export":1`, `"stint_export":2`, 1), "has version 2"},
		"schema":  {strings.Replace(text, `"schema":1`, `"schema":99`, 1), "of schema 99"},
		"column":  {strings.Replace(text, `"key":"k"`, `"kee":"k"`, 1), `settings has no column "kee"`},
		"table":   {strings.Replace(text, `"table":"settings"`, `"table":"meta"`, 1), `no table "meta"`},
		"twice":   {lines[0] + strings.Repeat(lines[1], 2), "UNIQUE"},
	} {
		if _, _, err := Import(ctx, strings.NewReader(tt.text), path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
		if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
			t.Errorf("%s: leaves %q, %v", what, left, err)
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Import(ctx, &b, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("into a file that exists: %v", err)
	}
}
