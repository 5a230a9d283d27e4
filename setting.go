package stint

import (
	"context"
	"fmt"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/store"
)

// MaxSetting is the maximum size of a setting's value in bytes.
const MaxSetting = 1 << 20

// SetSetting stores a value that belongs to no run, such as the state of a server that is built
// on the client. It replaces the value of the key; a nil value deletes it. When SetSetting has
// returned, all processes on the database see the value.
//
// A key has 1 to 255 bytes of UTF-8, a value at most MaxSetting bytes. Settings are stored as
// they are, not encrypted, and are kept until they are deleted.
func (c *Client) SetSetting(ctx context.Context, key string, value []byte) error {
	_, err := c.setSetting(ctx, "set setting", store.Setting{Key: key, Value: value}, false)
	return err
}

// EnsureSetting stores a value unless the key has one, and returns the stored value: of several
// processes that call it at once, one sets the value and all get it.
func (c *Client) EnsureSetting(ctx context.Context, key string, value []byte) ([]byte, error) {
	if value == nil {
		value = []byte{}
	}
	return c.setSetting(ctx, "ensure setting", store.Setting{Key: key, Value: value}, true)
}

func (c *Client) setSetting(ctx context.Context, op string, s store.Setting, ifMissing bool) ([]byte, error) {
	op = fmt.Sprintf("%s %.300q", op, s.Key)
	err := check.Name("key", s.Key)
	if err == nil {
		err = check.Size("value", len(s.Value), MaxSetting)
	}
	if err != nil {
		return nil, wrapStoreErr(op, err)
	}
	value, err := c.store.SetSetting(ctx, s, ifMissing)
	return value, wrapStoreErr(op, err)
}

// Setting returns the value that SetSetting stored under a key, or ErrNotFound.
func (c *Client) Setting(ctx context.Context, key string) ([]byte, error) {
	op := fmt.Sprintf("setting %.300q", key)
	if err := check.Name("key", key); err != nil {
		return nil, wrapStoreErr(op, err)
	}
	all, _, err := c.store.Settings(ctx, key, "", 1) // of those that begin with the key it is the first
	if err == nil && (len(all) == 0 || all[0].Key != key) {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, wrapStoreErr(op, err)
	}
	return all[0].Value, nil
}

// Settings returns the settings whose keys begin with a prefix; "": all. It returns an error if
// there are more than 100,000 or their values exceed 256 MiB.
func (c *Client) Settings(ctx context.Context, prefix string) (map[string][]byte, error) {
	if err := check.Text("prefix", prefix); err != nil {
		return nil, wrapStoreErr("settings", err)
	}
	found := map[string][]byte{}
	var whole check.Whole
	for after, more := "", true; more; {
		all, rest, err := c.store.Settings(ctx, prefix, after, maxPage)
		if err != nil {
			return nil, wrapStoreErr("settings", err)
		}
		for i := range all {
			if err := whole.Add(all[i].Size()); err != nil {
				return nil, wrapStoreErr("settings", err)
			}
			after = all[i].Key
			found[after] = all[i].Value
		}
		more = rest
	}
	return found, nil
}
