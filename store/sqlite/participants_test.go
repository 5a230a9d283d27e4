package sqlite

import (
	"reflect"
	"slices"
	"testing"
)

// Every participant that there is has its part in commits.
func TestEveryParticipantIsRegistered(t *testing.T) {
	p := newParticipants(&graphCache{})
	fields := reflect.ValueOf(p).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		if name == "all" {
			continue
		}
		in := slices.ContainsFunc(p.all, func(x participant) bool {
			return reflect.ValueOf(x).Pointer() == fields.Field(i).Pointer()
		})
		if !in {
			t.Errorf("%s is not in all", name)
		}
	}
	if want := fields.NumField() - 1; len(p.all) != want {
		t.Errorf("all has %d participants, want %d", len(p.all), want)
	}
}
