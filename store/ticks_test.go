package store_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stint-dev/stint/store"
)

// long says that TestTicks walks every minute of ten years, which takes minutes.
var long = flag.Bool("long", false, "compare the ticks of every minute of ten years, not of days around changes of clocks")

// zones change their clocks at midnight, at one, at two, by half an hour, by a whole day, over the
// new year, in Ramadan, or not at all.
var zones = []string{"UTC", "America/New_York", "America/Los_Angeles", "America/St_Johns", "America/Havana", "America/Sao_Paulo",
	"America/Asuncion", "America/Santiago", "America/Caracas", "America/Nuuk", "America/Scoresbysund", "Atlantic/Azores", "Europe/Oslo",
	"Europe/London",
	"Europe/Dublin", "Europe/Lisbon", "Europe/Moscow", "Europe/Istanbul", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut",
	"Asia/Amman", "Asia/Gaza", "Asia/Tehran",
	"Asia/Damascus", "Asia/Pyongyang", "Asia/Kathmandu", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Chatham", "Pacific/Apia",
	"Pacific/Easter",
	"Antarctica/Troll", "Antarctica/Casey"}

// specs have what a spec may have: minutes and hours that are given, of all, of steps, and both rules of days.
var specs = []string{"* * * * *", "*/20 * * * *", "30 * * * *", "0 */3 * * *", "*/15 1 * * *", "30 1 * * *", "0 0 * * *", "15 2 * * *",
	"59 23 * * *",
	"0 9 * * 5", "0 0 * * 0", "0 0 1 * *", "0,30 0-3 * * *", "0 0 24-30 * 5", "30 0 */2 * *", "5 0 * 4,10 *", "@hourly", "@daily",
	"@weekly", "@monthly"}

// A plain is a spec as the oracle reads it: minutes, hours, days of the month, months and weekdays.
type plain struct {
	fields [5]map[int]bool
	fixed  bool // its hour and its minute are given
	either bool // both kinds of days are given
}

func plainOf(spec string) (p plain) {
	spec = strings.NewReplacer("@hourly", "0 * * * *", "@daily", "0 0 * * *", "@weekly", "0 0 * * 0", "@monthly", "0 0 1 * *").Replace(spec)
	texts := strings.Fields(spec)
	for i, text := range texts {
		p.fields[i] = map[int]bool{}
		for part := range strings.SplitSeq(text, ",") {
			part, step, _ := strings.Cut(part, "/")
			from, to, isRange := strings.Cut(part, "-")
			every, _ := strconv.Atoi(step)
			every = max(every, 1)
			low, _ := strconv.Atoi(from)
			high := low
			if isRange {
				high, _ = strconv.Atoi(to)
			}
			if from == "*" {
				low, high = []int{0, 0, 1, 1, 0}[i], 59
			}
			for n := low; n <= high; n += every {
				p.fields[i][n] = true
			}
		}
	}
	p.fixed = texts[0][0] != '*' && texts[1][0] != '*'
	p.either = texts[2] != "*" && texts[4] != "*"
	return p
}

func (p *plain) comes(t time.Time) bool {
	f := &p.fields
	if !f[0][t.Minute()] || !f[1][t.Hour()] || !f[3][int(t.Month())] {
		return false
	}
	dom, dow := f[2][t.Day()], f[4][int(t.Weekday())]
	return dom && dow || p.either && (dom || dow)
}

// expected walks minute by minute, and returns when each spec comes. What a wall has shown before
// in the walk, a fixed spec does not have again.
func expected(zone *time.Location, from, to time.Time, all []plain) [][]time.Time {
	out := make([][]time.Time, len(all))
	shown, before := map[string]bool{}, map[string]bool{} // of these two days, and of the two before
	for t := from; t.Before(to); t = t.Add(time.Minute) {
		if t.Sub(from)%(48*time.Hour) == 0 {
			shown, before = map[string]bool{}, shown
		}
		wall := t.In(zone)
		name, again := "", false
		for i := range all {
			if !all[i].comes(wall) {
				continue
			}
			if name == "" {
				name = wall.Format("2006-01-02 15:04")
				again = shown[name] || before[name]
				shown[name] = true
			}
			if !(again && all[i].fixed) {
				out[i] = append(out[i], t)
			}
		}
	}
	return out
}

// compareTicks holds the ticks of all specs between two times against the oracle.
func compareTicks(t *testing.T, zone string, from, to time.Time) {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]plain, len(specs))
	for i, s := range specs {
		all[i] = plainOf(s)
	}
	for i, want := range expected(loc, from, to, all) {
		spec := fmt.Sprintf("CRON_TZ=%s %s", zone, specs[i])
		var got []time.Time
		for at := from.Add(-time.Second); ; {
			if at, err = store.NextTick(spec, at); err != nil {
				t.Fatal(err)
			}
			if at.IsZero() || !at.Before(to) || len(got) > len(want) {
				break
			}
			got = append(got, at)
		}
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			for k := range max(len(got), len(want)) {
				if k >= len(got) || k >= len(want) || !got[k].Equal(want[k]) {
					t.Errorf("%s from %v: tick %d of %d is %v, want %v of %d", spec, from, k, len(got), at(got, k, loc), at(want, k, loc),
						len(want))
					break
				}
			}
		}
	}
}

func at(all []time.Time, i int, loc *time.Location) any {
	if i < len(all) {
		return all[i].In(loc)
	}
	return "none"
}

// Ticks are those that a walk from minute to minute finds, in zones of all kinds: around each change of clocks in ten
// years and on days between; with -long, in all of the ten years.
func TestTicks(t *testing.T) {
	begin, end := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, name := range zones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if *long {
				compareTicks(t, name, begin, end)
				return
			}
			for _, change := range changes(t, name, begin, end) {
				compareTicks(t, name, change.Add(-27*time.Hour), change.Add(15*time.Hour))
			}
			for range 3 {
				day := begin.Add(time.Duration(rand.Int64N(int64(end.Sub(begin)))).Truncate(time.Minute))
				compareTicks(t, name, day, day.Add(30*time.Hour))
			}
		})
	}
	for zone, day := range map[string]time.Time{ // whole days that were skipped, or had twice
		"Pacific/Apia": time.Date(2011, 12, 30, 10, 0, 0, 0, time.UTC), "Pacific/Kwajalein": time.Date(1993, 8, 21, 12, 0, 0, 0, time.UTC),
		"Pacific/Kiritimati": time.Date(1994, 12, 31, 10, 0, 0, 0, time.UTC), "America/Juneau": time.Date(1983, 10, 30, 10, 0, 0, 0,
			time.UTC),
	} {
		compareTicks(t, zone, day.Add(-72*time.Hour), day.Add(72*time.Hour))
	}
}

// changes returns the hours in which a zone's clocks change.
func changes(t *testing.T, zone string, from, to time.Time) (all []time.Time) {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	_, last := from.In(loc).Zone()
	for at := from; at.Before(to); at = at.Add(time.Hour) {
		if _, now := at.In(loc).Zone(); now != last {
			all, last = append(all, at), now
		}
	}
	return all
}
