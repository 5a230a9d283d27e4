package sqlite

// A nameCheck is (*location).check for who asks around each commit: it asks for the files themselves only if their names may have
// changed since they were last found in place. Not for concurrent use.
type nameCheck struct {
	at      *location // nil: a database in memory
	names   nameWatch
	inPlace bool // they were, once names watched
}

// check returns what at.check would.
func (c *nameCheck) check() error {
	if c.at == nil || c.inPlace && !c.names.changed() {
		return nil
	}
	watched := c.names.renew(c.at) // before they are looked at: what happens after that is seen
	err := c.at.check()
	c.inPlace = watched && err == nil
	return err
}

func (c *nameCheck) close() {
	c.inPlace = false
	c.names.close()
}
