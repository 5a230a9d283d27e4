package versions

import (
	"strconv"
	"testing"
)

func TestCache(t *testing.T) {
	var c Cache[string]
	if c.At("a", "1") != "" || c.Newest("a") != "" {
		t.Error("an empty cache has a version")
	}
	c.Drop("a")
	c.Put("a", "1", "a1")
	if got := c.Newest("a"); got != "" {
		t.Errorf("%q is the newest, though nobody said so", got)
	}
	c.PutNewest("a", "2", "a2")
	c.PutNewest("b", "2", "b2")
	c.Put("a", "3", "a3")
	for _, test := range []struct{ got, want string }{
		{c.At("a", "1"), "a1"}, {c.At("a", "2"), "a2"}, {c.At("b", "2"), "b2"}, {c.At("b", "1"), ""}, {c.Newest("a"), "a2"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
	c.Drop("a")
	if c.Newest("a") != "" || c.At("a", "2") != "a2" || c.Newest("b") != "b2" {
		t.Error("Drop dropped something else than the newest version of its name")
	}
}

// Older versions do not pile up, and the newest stay.
func TestBound(t *testing.T) {
	var c Cache[int]
	c.PutNewest("a", "newest", -1)
	for i := range 3 * maxKnown {
		c.Put("a", strconv.Itoa(i), i)
		if len(c.known) > maxKnown {
			t.Fatalf("%d versions are kept, more than %d", len(c.known), maxKnown)
		}
		if got := c.At("a", strconv.Itoa(i)); got != i {
			t.Fatalf("version %d is %d just after Put", i, got)
		}
	}
	if got := c.Newest("a"); got != -1 {
		t.Errorf("the newest is %d", got)
	}
}
