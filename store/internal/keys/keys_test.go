package keys_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stint-dev/stint/store"
	"github.com/stint-dev/stint/store/internal/keys"
)

// An ID stands for one key of one database, is a UUIDv7 of its time, and sorts as keys do.
func FuzzID(f *testing.F) {
	mine, err := keys.New([]byte("0123456789abcdef"))
	if err != nil {
		f.Fatal(err)
	}
	other, _ := keys.New([]byte("fedcba9876543210"))
	f.Add(int64(1), []byte("0123456789abcdef"))
	f.Add(keys.At(time.Now()), make([]byte, 16))
	f.Add(int64(1)<<62, make([]byte, 16))
	f.Fuzz(func(t *testing.T, key int64, raw []byte) {
		if key > 0 {
			id := mine.ID(key)
			if k, ok := mine.Key(id); !ok || k != key {
				t.Errorf("key %d became %s and came back as %d, %v", key, id, k, ok)
			}
			if _, ok := other.Key(id); ok {
				t.Errorf("%s of another database was taken for this one's", id)
			}
			if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
				t.Errorf("%s has version %d and variant %d", id, id.Version(), id.Variant())
			}
			if next := mine.ID(key + 1); key+1 > 0 && next.String() <= id.String() {
				t.Errorf("%s does not sort before %s", id, next)
			}
		}
		var made store.ID
		copy(made[:], raw)
		if k, ok := mine.Key(made); ok && mine.ID(k) != made {
			t.Errorf("%s was taken for %s", made, mine.ID(k))
		}
	})
}
