package reading

import "strconv"

// A Dialect is the SQL that differs. In it r is stint_runs, and l is r's lane.
type Dialect struct {
	Visible      string                     // the condition that l is not of a bulk that is being enqueued
	Executions   string                     // how often r was given to a worker
	AttemptOrder string                     // the column that orders the attempts of a run
	ErrorHas     string                     // the condition that r.error has the text ?; see store.ErrorHas
	TextHas      func(column string) string // the condition that a text has the text ?, whatever the case of letters
	HasLimit     string                     // the condition that r.limits has one with name ?, key ?, and a rate or not: ?
	HasMetadata  string                     // the condition that r.metadata has the key ? with the value ?
	EventMatch   string                     // field, match and filter of a journal's entry, as a JSON array
	Pending      string                     // the condition that an event was not published yet, word for word as the index has it
	OfKeys       string                     // compares with the keys in ?, which is what Keys returns
	Keys         func(keys []int64) any

	getRun string // the statement of Get, which is called often
}

func complete(d Dialect) Dialect {
	d.getRun = runColumns + d.Executions + moreRunColumns + runTables + d.Visible + " AND r.id = ?"
	return d
}

// SQLite is the dialect of store/sqlite. What was changed by hand and is not JSON matches nothing.
var SQLite = complete(Dialect{
	Visible:      "l.staged IS NULL",
	Executions:   "r.lease",
	AttemptOrder: "lease",
	ErrorHas:     "stint_error_has(r.error, ?)",
	TextHas:      func(column string) string { return "stint_text_has(" + column + ", ?)" },
	HasLimit: `EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(r.limits) THEN r.limits END) j WHERE CASE WHEN j.type = 'object'
			THEN coalesce(j.value->>'n', '') = ? AND coalesce(j.value->>'k', '') = ? AND (j.value->>'u' IS NOT NULL) = ? END)`,
	HasMetadata: "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(r.metadata) THEN r.metadata END) j " +
		"WHERE j.key = ? AND j.value = ?)",
	EventMatch: "json_array(field, match, filter)",
	Pending:    "pending = 1",
	OfKeys:     "IN (SELECT value FROM json_each(?))",
	Keys:       func(keys []int64) any { return JSONKeys(keys) },
})

// Regular expressions of PostgreSQL for JSON that its functions take: to give them other texts fails the statement,
// and a row may have been changed by hand. A NUL and halves of surrogate pairs, which a text cannot have, are left out:
// no store writes these.
const (
	jsonString = `"([^"\\\u0001-\u001f]|\\["\\/bfnrt]|\\u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4})*"`
	jsonScalar = `(` + jsonString + `|-?(0|[1-9][0-9]*)([.][0-9]+)?([eE][-+]?[0-9]+)?|true|false|null)`
	jsonMember = `\s*` + jsonString + `\s*:\s*` + jsonScalar + `\s*`
	jsonObject = `\s*\{(` + jsonMember + `(,` + jsonMember + `)*|\s*)\}\s*`
	jsonArray  = `\s*\[(` + jsonObject + `(,` + jsonObject + `)*|\s*)\]\s*`
	jsonError  = `^\{("kind":"[^"\\]*",)?"message":(` + jsonString + `)`
)

// PostgreSQL is the dialect of PostgreSQL, from version 15 on. What was changed by hand and is not JSON matches
// nothing.
var PostgreSQL = complete(Dialect{
	Visible:      "true",
	Executions:   "r.executions",
	AttemptOrder: "n",
	// The message is the first member of an encoded error, or comes after its kind. What is not such an error is
	// its own message.
	ErrorHas: `strpos(lower(CASE WHEN r.error ~ '` + jsonError + `[,}]'
			THEN (regexp_match(r.error, '` + jsonError + `'))[2]::json #>> '{}' ELSE r.error END), lower(?)) > 0`,
	TextHas: func(column string) string { return "strpos(lower(" + column + "), lower(?)) > 0" },
	HasLimit: `EXISTS (SELECT 1 FROM json_array_elements(CASE WHEN r.limits ~ '^` + jsonArray + `$' THEN r.limits::json END) j
			WHERE coalesce(j->>'n', '') = ? AND coalesce(j->>'k', '') = ? AND (j->>'u' IS NOT NULL) = ?)`,
	HasMetadata: "CASE WHEN r.metadata ~ '^" + jsonObject + "$' THEN r.metadata::json->>?::text END = ?",
	EventMatch:  "json_build_array(field, match, filter)::text",
	Pending:     "pending",
	OfKeys:      "= ANY (?::bigint[])",
	Keys:        func(keys []int64) any { return keys },
})

// JSONKeys returns a JSON array.
func JSONKeys(ids []int64) string {
	keys := make([]byte, 0, 2+20*len(ids))
	keys = append(keys, '[')
	for i, id := range ids {
		if i > 0 {
			keys = append(keys, ',')
		}
		keys = strconv.AppendInt(keys, id, 10)
	}
	return string(append(keys, ']'))
}

// States as conditions. They are literals, never bound: a database uses a partial index only for a statement
// whose condition implies that of the index, and a bound state implies nothing.
const (
	isScheduled  = "state = 2"
	isQueued     = "state = 3"
	isRunning    = "state = 4"
	isWaiting    = "state = 5"
	isBlocked    = "state = 6"
	isSucceeded  = "state = 7"
	afterRunning = "state > 4"
	notEnded     = "state < 7"
	hasEnded     = "state >= 7"
	notSucceeded = "state > 7"
)

// dueTime is when a run is due: a row without due_at is due when it is created.
const dueTime = "coalesce(r.due_at, r.id >> 20)"
