package postgres

import (
	"slices"
	"strconv"
	"strings"
)

// A snapshot says which transactions of the server are over: those before xmin, and those before xmax that are
// not open. See pg_current_snapshot in PostgreSQL's documentation.
type snapshot struct {
	xmin, xmax int64
	open       []int64
}

func parseSnapshot(text string) (s snapshot) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s // it differs from all others, so there is something to look at
	}
	s.xmin, _ = strconv.ParseInt(parts[0], 10, 64)
	s.xmax, _ = strconv.ParseInt(parts[1], 10, 64)
	for x := range strings.SplitSeq(parts[2], ",") {
		if n, err := strconv.ParseInt(x, 10, 64); err == nil {
			s.open = append(s.open, n)
		}
	}
	return s
}

// over reports whether a transaction is over.
func (s *snapshot) over(xid int64) bool { return xid < s.xmax && !slices.Contains(s.open, xid) }

// maxForeign is how many transactions are looked at one by one.
const maxForeign = 1000

// foreign reports whether a transaction is over that was not in an earlier snapshot, and is not one of own.
func (s *snapshot) foreign(earlier snapshot, own []int64) bool {
	if s.xmax-earlier.xmax > maxForeign {
		return true
	}
	for xid := earlier.xmax; xid < s.xmax; xid++ {
		if s.over(xid) && !slices.Contains(own, xid) {
			return true
		}
	}
	return slices.ContainsFunc(earlier.open, func(xid int64) bool { return s.over(xid) && !slices.Contains(own, xid) })
}
