package reading_test

import (
	"testing"

	"github.com/stint-dev/stint/store/internal/reading"
)

func TestRewrite(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"SELECT 1", "SELECT 1"},
		{"SELECT id FROM stint_runs r WHERE id = ? AND lane = ?", `SELECT id FROM "s".runs r WHERE id = $1 AND lane = $2`},
		{"SELECT stint_runs.id FROM stint_runs, stint_lanes", `SELECT "s".runs.id FROM "s".runs, "s".lanes`},
		{"a = ?2 AND b = ?1 AND c = ?12 AND d = ?", "a = $2 AND b = $1 AND c = $12 AND d = $13"},
		{"a = ? AND b = ?1 AND c = ?", "a = $1 AND b = $1 AND c = $2"},
		{"name LIKE '%:?' AND x = ?", "name LIKE '%:?' AND x = $1"},
		{"'it''s ? stint_runs' || ?", "'it''s ? stint_runs' || $1"},
		{"'\\' || ?", "'\\' || $1"},
		{`"stint_runs?" = ?`, `"stint_runs?" = $1`},
		{"my_stint_runs, mystint_runs, stint", "my_stint_runs, mystint_runs, stint"},
		{"'open ?", "'open ?"},
		{"metadata::json->>?::text = ?", "metadata::json->>$1::text = $2"},
		{"stint_a(?)", `"s".a($1)`},
		{"name = 'é?' || ?", "name = 'é?' || $1"},
	} {
		if got := reading.Rewrite(c.text, `"s"`); got != c.want {
			t.Errorf("%s\nbecame %s\nwant   %s", c.text, got, c.want)
		}
	}
}
