package stint

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stint-dev/stint/internal/check"
	"github.com/stint-dev/stint/internal/failure"
	"github.com/stint-dev/stint/internal/fingerprint"
	"github.com/stint-dev/stint/internal/text"
	"github.com/stint-dev/stint/store"
)

// An ErrorGroup stands for the runs of one task that failed with the same error: the first lines
// of their errors differ only in what varies from run to run, such as numbers, IDs, addresses
// and quoted texts.
//
// A run counts when it ends as StateFailed, and again each time that it fails after a replay. An
// attempt that another follows does not count. A workflow's run does not count either: its tasks
// do. A group is kept for 31 days after its last run failed, and longer while it is muted. At
// most 10,000 groups are kept: those that were seen last.
type ErrorGroup struct {
	ID     string // for RunFilter.ErrorGroup
	Task   string
	Text   string // the first line of the errors, with what varies masked, such as "order <n>"
	Sample string // the error of the last run; its first 1 KiB
	RunID  string // the last run that failed so; it may have been deleted
	First  time.Time
	Last   time.Time // when RunID failed
	Count  int64     // since First
	// Trend has a count for each minute or hour of the filter's time in which a run failed,
	// oldest first. Counts of minutes are kept for 25 hours, those of hours for 31 days.
	Trend []ErrorCount
	// MutedUntil is the end of the mute of MuteErrors; a time in the year 9999: never. Zero: there is no such mute.
	MutedUntil time.Time
	// MutedToCount is the Count at which the mute of MuteErrorsToDouble ends; 0: there is none.
	MutedToCount int64
	Muted        bool // MutedUntil is in the future, or Count is below MutedToCount
	// Resolved reports that ResolveErrors was called and no run has failed with the error since.
	// Regressed reports that ResolveErrors was called and a run has failed with it since.
	Resolved, Regressed bool
}

// InRange returns how often a run failed with the error in the filter's time: the sum of the
// Trend.
func (g *ErrorGroup) InRange() (n int64) {
	for _, c := range g.Trend {
		n += c.Count
	}
	return n
}

// An ErrorCount says how often a run failed with a group's error in a minute or an hour.
type ErrorCount struct {
	At    time.Time // when it begins
	Count int64
}

// An ErrorFilter selects the error groups that match all its fields. A zero field matches every
// group; an empty list that is not nil matches none.
type ErrorFilter struct {
	IDs   []string  // at most 1,000
	Tasks []string  // at most 1,000
	Since time.Time // a run failed at or after
	Until time.Time // the first run failed before
	Text  string    // in Task, Text or Sample; case is ignored
	// Span is a minute or an hour: the length of the spans of ErrorGroup.Trend. 0: a minute if
	// Since is within the last 25 hours, else an hour.
	Span   time.Duration
	Limit  int    // size of the page; default 100, at most 1,000
	Cursor string // ErrorPage.Next of the previous page
}

// An ErrorPage is a page of error groups, the last seen first.
type ErrorPage struct {
	Groups []ErrorGroup
	Next   string // Cursor of the next page; "" on the last
}

// forGood is until when a group is muted that is muted for good.
var forGood = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// ListErrors returns a page of error groups, the most recently seen first. A group that is seen
// again while the pages are read may be missing on a later one.
func (c *Client) ListErrors(ctx context.Context, f ErrorFilter) (*ErrorPage, error) {
	const op = "list errors"
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return nil, fmt.Errorf("stint: %s: %w", op, err)
	}
	q, err := c.errorQuery(f)
	if err != nil {
		return nil, errorf("stint: %s: %w", op, err)
	}
	all, more, err := c.store.ErrorGroups(ctx, q, limit)
	if err != nil {
		return nil, wrapStoreErr(op, err)
	}
	page := &ErrorPage{Groups: make([]ErrorGroup, len(all))}
	for i := range all {
		page.Groups[i] = c.errorGroup(&all[i])
	}
	if more {
		last := &all[len(all)-1]
		page.Next = fmt.Sprintf("%d-%s", last.Last.UnixMilli(), groupID(last.Group))
	}
	return page, nil
}

func (c *Client) errorGroup(g *store.ErrorGroup) ErrorGroup {
	x := ErrorGroup{groupID(g.Group), g.Task, g.Text, g.Sample, g.Run.String(), g.First, g.Last, g.Count, nil, g.MutedTill,
		g.MutedTo, g.MutedTill.After(c.now()) || g.Count < g.MutedTo, g.Resolved > 0 && g.Count == g.Resolved,
		g.Resolved > 0 && g.Count > g.Resolved}
	for _, n := range g.Counts {
		x.Trend = append(x.Trend, ErrorCount{n.At, n.N})
	}
	return x
}

func (c *Client) errorQuery(f ErrorFilter) (q store.ErrorQuery, err error) {
	if err := check.Count("IDs", len(f.IDs), check.MaxNames); err != nil {
		return q, err
	}
	if err := check.Names("task name", f.Tasks); err != nil {
		return q, err
	}
	q = store.ErrorQuery{Tasks: f.Tasks, Since: f.Since, Until: f.Until, Span: f.Span, Text: f.Text}
	if err := check.Size("text", len(f.Text), check.MaxSearch); err != nil {
		return q, err
	}
	switch {
	case f.Span != 0 && f.Span != time.Minute && f.Span != time.Hour:
		return q, fmt.Errorf("span %v: want a minute or an hour, or 0", f.Span)
	case f.Span == 0 && f.Since.After(c.now().Add(-store.MinutesKept)):
		q.Span = time.Minute
	case f.Span == 0:
		q.Span = time.Hour
	}
	if f.IDs != nil {
		q.IDs = []int64{}
	}
	for _, id := range f.IDs {
		n, err := parseGroupID(id)
		if err != nil {
			return q, err
		}
		q.IDs = append(q.IDs, n)
	}
	if f.Cursor != "" {
		at, id, _ := strings.Cut(f.Cursor, "-")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err == nil {
			q.After.ID, err = parseGroupID(id)
		}
		if err != nil {
			return q, fmt.Errorf("cursor %.300q: want the Next of a page", f.Cursor)
		}
		q.After.Last = time.UnixMilli(ms)
	}
	return q, errors.Join(wantTime("Since", f.Since), wantTime("Until", f.Until))
}

// MuteErrors mutes an error group until a time, or for good if that is zero: the page leaves the
// group out of what needs attention and of the list of open errors. Its runs are still counted. It
// returns ErrNotFound if there is no such group.
func (c *Client) MuteErrors(ctx context.Context, id string, until time.Time) error {
	if until.IsZero() {
		until = forGood
	}
	if err := wantTime("until", until); err != nil {
		return errorf("stint: mute errors: %w", err)
	}
	return c.markErrors(ctx, "mute errors", id, store.ErrorMark{MutedTill: until})
}

// MuteErrorsToDouble mutes an error group, as MuteErrors does, until its Count is twice what it is
// now.
func (c *Client) MuteErrorsToDouble(ctx context.Context, id string) error {
	return c.markErrors(ctx, "mute errors", id, store.ErrorMark{ToDouble: true})
}

// ResolveErrors marks an error group as resolved, until a run fails with that error again: then
// the group is Regressed. It also ends a mute of the group. It returns ErrNotFound if there is no
// such group.
func (c *Client) ResolveErrors(ctx context.Context, id string) error {
	return c.markErrors(ctx, "resolve errors", id, store.ErrorMark{Resolved: true})
}

// UnmuteErrors ends the effect of MuteErrors, MuteErrorsToDouble and ResolveErrors. It returns
// ErrNotFound if there is no such group.
func (c *Client) UnmuteErrors(ctx context.Context, id string) error {
	return c.markErrors(ctx, "unmute errors", id, store.ErrorMark{})
}

func (c *Client) markErrors(ctx context.Context, op, id string, m store.ErrorMark) error {
	group, err := parseGroupID(id)
	if err != nil {
		return errorf("stint: %s: %w", op, err)
	}
	return wrapStoreErr(op, c.store.MarkErrors(ctx, group, m))
}

// groupID returns the ID of an error group as users see it.
func groupID(id int64) string { return fmt.Sprintf("%016x", uint64(id)) }

// parseGroupID is the inverse of groupID.
func parseGroupID(id string) (int64, error) {
	n, err := strconv.ParseUint(id, 16, 64)
	if err != nil || len(id) != 16 || n == 0 {
		return 0, fmt.Errorf("error group %.300q: want 16 hexadecimal digits: %w", id, ErrNotFound)
	}
	return int64(n), nil
}

// groupOf returns the ID of the group in which a run counts, or "".
func groupOf(r *store.Run, f *failure.Failure) string {
	if r.State != store.Failed {
		return ""
	}
	g := groupFailure(r.Task, f)
	if g == nil {
		return ""
	}
	return groupID(g.Group)
}

// groupFailure returns in which group a stored error counts with which a run of a task has failed; nil: in none.
func groupFailure(task string, f *failure.Failure) *store.Failure {
	if f.Kind == store.KindWorkflow {
		return nil
	}
	message := f.Message
	if f.Kind == failure.KindPanic && !strings.HasPrefix(message, "panic: ") {
		message = "panic: " + message
	}
	id, masked := fingerprint.Of(task, message)
	sample := strings.ReplaceAll(strings.ToValidUTF8(f.Message, "\uFFFD"), "\x00", "\uFFFD") // as all databases can store it
	return &store.Failure{Group: id, Task: task, Text: masked, Sample: text.Cut(sample, text.Listed)}
}
