package postgres

import (
	"testing"
	"time"
)

// The server ends a transaction of the writer's whose process does not go on: a process that is frozen holds its
// locks for no longer than others take to notice.
func TestFrozenTransactionEnds(t *testing.T) {
	set := newTables(t)
	set.silentAfter = 50 * time.Millisecond
	w := &writer{s: &Store{settings: set}}
	ctx := withinMinutes(t)
	if err := w.connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer w.conn.Close(ctx)
	if _, err := w.conn.Exec(ctx, qualify("BEGIN; UPDATE stint.epoch SET n = n + 1", set.Schema)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.conn.WaitForNotification(ctx); err == nil || !w.conn.IsClosed() || ctx.Err() != nil {
		t.Errorf("the connection: %v; want that the server has ended it", err)
	}
	var n int64
	if err := dial(t, set).QueryRow(ctx, qualify("SELECT n FROM stint.epoch FOR UPDATE", set.Schema)).Scan(&n); err != nil || n != 0 {
		t.Errorf("epoch %d, %v; want 0, not locked", n, err)
	}
}
