//go:build !linux

package sqlite

// A nameWatch watches nothing here: the files are looked at each time.
type nameWatch struct{}

func (*nameWatch) changed() bool        { return true }
func (*nameWatch) renew(*location) bool { return false }
func (*nameWatch) close()               {}
