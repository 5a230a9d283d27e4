package stint_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stint-dev/stint"
)

// A workflow that was enqueued in a transaction which is rolled back leaves nothing behind:
// the next of its shape runs, as one does after a transaction that was committed.
func TestWorkflowOfARolledBackTx(t *testing.T) {
	for what, end := range map[string]func(*sql.Tx) error{"committed": (*sql.Tx).Commit, "rolled back": (*sql.Tx).Rollback} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.db")
			c := openedAt(t, path)
			w := stint.NewWorkflow[int](c, "w")
			a := stint.AddTask(w, "a", constant("a"))
			stint.AddTask(w, "b", constant("b"), stint.WithParents(a))
			working(t, c)
			tx, err := app(t, path).BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Enqueue(t.Context(), 1, stint.WithTx(tx)); err != nil {
				t.Fatal(err)
			}
			if err := end(tx); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Run(t.Context(), 2); err != nil {
				t.Error(err)
			}
		})
	}
}
