package sqlite

const (
	checkpointFrames = 4000 // in the log: then SQLite writes it back to the database, and begins it anew
	leastFill        = 64 << 10
	mostFill         = 1 << 20 // bytes
	frameHeader      = 24
)

// A prefill keeps the file of the log longer than its frames, by zeros: to sync a commit that overwrites bytes of a file is one write to
// the disk, and to sync one that appends to it is more, as the file's size and its new blocks are stored too. docs/design/engine.md
// argues why nobody takes the zeros for frames, or writes where they are written.
type prefill struct {
	frame int64 // bytes of a frame; 0: nothing is filled
	first int   // frames in the log that do not count: others wrote them, or a fill has failed since; -1: not known yet
	last  int   // frames after the last commit
	size  int64 // of the file when it was last looked at
}

// newPrefill returns the prefill of a store that syncs each commit: others append to the log without waiting for the disk.
func (s *Store) newPrefill() (prefill, error) {
	if s.path == Memory || s.opts.Normal {
		return prefill{}, nil
	}
	var page int64
	err := onConn(s.write).one("PRAGMA page_size", nil, &page)
	return prefill{frame: page + frameHeader, first: -1}, err
}

// wants returns how large the file should be after a commit that left so many frames, or 0 if it is large enough. That grows with what
// the store has written since it was opened: a file with little to do gets little.
func (p *prefill) wants(frames int) int64 {
	if p.frame == 0 || frames == 0 {
		return 0
	}
	if p.first < 0 {
		p.first = frames
	}
	if frames < p.last { // the log has begun anew, and its file may be shorter
		p.first, p.size = 0, 0
	}
	p.last = frames
	used := logHeader + int64(frames)*p.frame
	ahead := min(int64(frames-p.first)*p.frame, mostFill)
	if ahead < leastFill || used+ahead/2 <= p.size || frames >= checkpointFrames {
		return 0
	}
	const block = 4096 // of file systems
	return (used + ahead + block - 1) / block * block
}

// failed forgets a fill that failed, as on a full disk: the log is appended to, and no other is tried before the store has written
// as much again as for the first one.
func (p *prefill) failed() { p.first = p.last }

func (w *writer) logIsShort() bool { return w.prefill.wants(w.conn.Frames()) != 0 }

// fillLog fills the log's file where commits would soon append to it. The caller has the turn, and nobody waits for it.
func (w *writer) fillLog() {
	if !w.logIsShort() {
		return
	}
	p, err := &w.prefill, error(nil)
	if p.size, err = w.conn.LogSize(); err != nil {
		p.failed()
		return
	}
	to := p.wants(w.conn.Frames())
	if to == 0 {
		return
	}
	if p.size = to; w.extendLog(to) != nil {
		p.failed()
	}
}

// extendLog extends the log's file in a transaction that changes nothing. It has SQLite's write lock, so no other connection writes
// frames, begins the log anew or truncates it meanwhile.
func (w *writer) extendLog(to int64) error {
	if err := w.s.at.check(); err != nil {
		return err
	}
	if err := w.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := w.conn.ExtendLog(to)
	if e := w.exec("ROLLBACK"); err == nil {
		err = e
	}
	return err
}
