//go:build !linux

package conn

// SyncData has the connection sync its log by fdatasync, and reports whether it did: it does so on Linux alone.
func (c *Conn) SyncData() bool { return false }

// SyncsData reports whether the connection syncs its log by fdatasync.
func (c *Conn) SyncsData() bool { return false }
