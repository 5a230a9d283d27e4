// Package keys has the keys of runs and events, and the IDs that show them.
//
// A run's key is an integer, which a database inserts faster than a UUID and needs no second index for;
// its ID is a UUIDv7 computed from that key.
//
//	key  = milliseconds since 1970 (43 bits) << 20 | sequence (20 bits)
//	UUID = milliseconds (48) | 7 | sequence's upper 12 bits | 2 | its lower 8 bits | seal (54 bits)
//
// The seal is AES of the key under a secret of the database, so that two databases never have the same ID,
// and an ID of another database is not found. RFC 9562, sections 5.7 and 6.2, allows a counter and any
// other bits.
package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"time"

	"github.com/stint-dev/stint/internal/clock"
	"github.com/stint-dev/stint/store"
)

// SeqBits is the number of bits below the milliseconds of a key.
const SeqBits = 20

// SecretSize is the size of a database's secret.
const SecretSize = 16

// IDs computes IDs from keys, and keys from IDs.
type IDs struct{ block cipher.Block }

// New returns the IDs under a secret.
func New(secret []byte) (IDs, error) {
	b, err := aes.NewCipher(secret)
	return IDs{b}, err
}

// ID returns the ID of a key.
func (i IDs) ID(key int64) store.ID {
	var buf [32]byte
	binary.BigEndian.PutUint64(buf[:8], uint64(key))
	i.block.Encrypt(buf[16:], buf[:16])
	var u store.ID
	binary.BigEndian.PutUint64(u[:8], uint64(key)>>SeqBits<<16|0x7000|uint64(key)>>8&0xfff)
	copy(u[8:], buf[16:24])
	u[8] = 0x80 | byte(key)>>2&0x3f
	u[9] = byte(key)<<6 | u[9]&0x3f
	return u
}

// Key returns the key of an ID; ok is false if the ID is not of this database.
func (i IDs) Key(u store.ID) (key int64, ok bool) {
	hi := binary.BigEndian.Uint64(u[:8])
	key = int64(hi>>16<<SeqBits | hi&0xfff<<8 | uint64(u[8]&0x3f)<<2 | uint64(u[9]>>6))
	return key, key > 0 && i.ID(key) == u
}

// Optional returns the ID of a key that may be missing.
func (i IDs) Optional(key *int64) store.ID {
	if key == nil {
		return store.ID{}
	}
	return i.ID(*key)
}

// CreatedAt returns when a key was given, in milliseconds.
func CreatedAt(key int64) int64 { return key >> SeqBits }

// At returns the first key of a time; the last possible key for a time beyond.
func At(t time.Time) int64 { return max(min(clock.Millis(t), 1<<43-1), 0) << SeqBits }
