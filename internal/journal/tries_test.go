package journal

import (
	"fmt"
	"testing"
)

func TestTries(t *testing.T) {
	var stored []byte
	for i := range MaxTries + 5 {
		stored = AddTry(stored, Try{Began: int64(i), Ended: int64(i + 1), Error: fmt.Sprint("\xff", i)})
	}
	all := Tries(stored)
	if len(all) != MaxTries || all[0].Began != 5 || all[MaxTries-1] != (Try{24, 25, "\ufffd24"}) {
		t.Errorf("%+v", all)
	}
	for _, text := range []string{"", "{", "7", `[{"began":"x"}]`} { // edited by hand
		if all := Tries(AddTry([]byte(text), Try{Began: 1})); len(all) != 1 || all[0].Began != 1 {
			t.Errorf("after %q: %+v", text, all)
		}
	}
}
