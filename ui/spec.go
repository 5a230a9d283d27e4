package ui

import (
	"fmt"
	"strconv"
	"strings"
)

// readSpec describes a cron spec in words. It returns "" for the rarer forms.
func readSpec(spec string) string {
	zone := ""
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		if rest, ok := strings.CutPrefix(spec, prefix); ok {
			z, s, _ := strings.Cut(rest, " ")
			zone, spec = " ("+z+")", strings.TrimSpace(s)
		}
	}
	if every, ok := strings.CutPrefix(spec, "@every "); ok {
		return "every " + every
	}
	if words, ok := specWords[spec]; ok {
		return words + zone
	}
	f := strings.Fields(spec)
	second := ""
	if len(f) == 6 {
		if f[0] != "0" {
			if step, ok := strings.CutPrefix(f[0], "*/"); ok && strings.Join(f[1:], "") == "*****" {
				return "every " + step + " seconds"
			}
			if f[0] == "*" && strings.Join(f[1:], "") == "*****" {
				return "every second"
			}
			second = " and " + f[0] + " seconds"
		}
		f = f[1:]
	}
	if len(f) != 5 {
		return ""
	}
	when := clock(f[0], f[1])
	days := dayWords(f[2], f[3], f[4])
	if when == "" || days == "-" {
		return ""
	}
	return when + second + days + zone
}

var specWords = map[string]string{
	"@hourly": "every hour", "@daily": "every day at 00:00", "@midnight": "every day at 00:00",
	"@weekly": "every Sunday at 00:00", "@monthly": "on the 1st of each month at 00:00",
	"@yearly": "every 1 January at 00:00", "@annually": "every 1 January at 00:00",
}

// clock describes the minute and hour; "" if it cannot.
func clock(minute, hour string) string {
	m, errM := strconv.Atoi(minute)
	h, errH := strconv.Atoi(hour)
	step, everyM := strings.CutPrefix(minute, "*/")
	hours, everyH := strings.CutPrefix(hour, "*/")
	switch {
	case errM == nil && errH == nil:
		return fmt.Sprintf("at %02d:%02d", h, m)
	case minute == "*" && hour == "*":
		return "every minute"
	case everyM && hour == "*":
		return "every " + step + " minutes"
	case errM == nil && hour == "*":
		return fmt.Sprintf("every hour at minute %d", m)
	case errM == nil && everyH:
		return fmt.Sprintf("every %s hours at minute %d", hours, m)
	case everyM && errH == nil:
		return fmt.Sprintf("every %s minutes from %02d:00 to %02d:59", step, h, h)
	}
	return ""
}

var (
	weekdays = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	months   = []string{"", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
		"November", "December"}
)

// dayWords describes the day of month, the month and the day of week; "-" if it cannot.
func dayWords(day, month, week string) string {
	words := ""
	switch {
	case day == "*" && (week == "*" || week == "?"), day == "?" && week == "*":
		if month == "*" {
			return ""
		}
	case day == "*" || day == "?":
		named, ok := listWords(week, weekdays)
		if !ok {
			return "-"
		}
		words = " on " + named
	case week == "*" || week == "?":
		if _, err := strconv.Atoi(day); err != nil {
			return "-"
		}
		words = " on day " + day + " of the month"
	default:
		return "-"
	}
	if month == "*" {
		return words
	}
	named, ok := listWords(month, months)
	if !ok {
		return "-"
	}
	return words + " in " + named
}

// listWords describes a list of numbers, of names (by their first three letters), and of ranges
// of these.
func listWords(s string, names []string) (string, bool) {
	var all []string
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		a, okA := nameOf(from, names)
		b, okB := nameOf(to, names)
		switch {
		case !okA || isRange && !okB:
			return "", false
		case isRange:
			all = append(all, a+" to "+b)
		default:
			all = append(all, a)
		}
	}
	return strings.Join(all, ", "), true
}

func nameOf(s string, names []string) (string, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 0 && n < len(names) && names[n] != "" {
			return names[n], true
		}
		return "", false
	}
	for _, name := range names {
		if len(s) == 3 && len(name) >= 3 && strings.EqualFold(s, name[:3]) {
			return name, true
		}
	}
	return "", false
}
