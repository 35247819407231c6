package scope

import (
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // for a machine without files about zones
)

// window is when a token may be used. All parts of it must hold.
type window struct {
	timed      bool
	start, end time.Duration // since midnight, both inclusive
	days       uint8         // a bit for each weekday, none for every day
	zone       *time.Location

	business, weekdays bool // in UTC
}

// The hours of business_hours_only: from the first until before the second.
const (
	businessFrom = 9
	businessTo   = 17
)

const workdays = 1<<time.Monday | 1<<time.Tuesday | 1<<time.Wednesday | 1<<time.Thursday | 1<<time.Friday

// readWindow reads time_restrictions, of which ContextForge has two forms, with
// start_time, end_time, timezone and days, and with business_hours_only and
// weekdays_only. They may be combined; the latter are about UTC, whatever the
// timezone. An empty object restricts nothing, because ContextForge writes one into
// every token that is not bound to times; nothing else that restricts nothing by
// mistake is let pass.
func readWindow(value any) (*window, *Error) {
	const claim = "scopes.time_restrictions"
	members, ok := value.(map[string]any)
	if !ok {
		return nil, invalid(claim, "is not an object")
	}
	if len(members) == 0 {
		return nil, nil
	}
	w := &window{zone: time.UTC}
	var starts, ends, zoned bool
	for _, name := range sortedNames(members) {
		var ok bool
		var problem string
		value := members[name]
		switch name {
		case "start_time":
			w.start, ok = clock(value)
			starts, problem = true, "is not a time such as 09:00 or 09:00:00"
		case "end_time":
			w.end, ok = clock(value)
			ends, problem = true, "is not a time such as 17:00 or 17:00:00"
		case "timezone":
			w.zone, ok = location(value)
			zoned, problem = true, "is not a known time zone"
		case "days":
			w.days, ok = weekdays(value)
			problem = "is not a list of days such as Monday"
		case "business_hours_only":
			w.business, ok = value.(bool)
			problem = "is not true or false"
		case "weekdays_only":
			w.weekdays, ok = value.(bool)
			problem = "is not true or false"
		default:
			return nil, invalid(claim, "has an unknown member")
		}
		if !ok {
			return nil, invalid(claim+"."+name, problem)
		}
	}
	if starts != ends {
		return nil, invalid(claim, "has only one of start_time and end_time")
	}
	if zoned && !starts && w.days == 0 {
		return nil, invalid(claim, "has a timezone, and neither times nor days in it")
	}
	w.timed = starts
	return w, nil
}

// clock reads a time of day, HH:MM or HH:MM:SS; the hour may have a single digit.
func clock(value any) (time.Duration, bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	parts := strings.Split(text, ":")
	if len(parts) != 2 && len(parts) != 3 {
		return 0, false
	}
	var of time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second}[:len(parts)] {
		part, limit := parts[i], uint64(60)
		if i == 0 {
			limit = 24
			if len(part) == 1 {
				part = "0" + part
			}
		}
		// ParseUint takes neither a sign nor, in base 10, an underscore.
		number, err := strconv.ParseUint(part, 10, 8)
		if err != nil || len(part) != 2 || number >= limit {
			return 0, false
		}
		of += time.Duration(number) * unit //nolint:gosec // less than 60
	}
	return of, true
}

// location reads the name of a zone of the IANA database. "Local", the zone of
// this machine to Go, is none.
func location(value any) (*time.Location, bool) {
	name, ok := value.(string)
	if !ok || name == "" || name == "Local" {
		return nil, false
	}
	zone, err := time.LoadLocation(name)
	return zone, err == nil
}

// weekdays reads a list of days by their full English names.
func weekdays(value any) (uint8, bool) {
	list, ok := value.([]any)
	if !ok {
		return 0, false
	}
	var days uint8
	for _, element := range list {
		name, ok := element.(string)
		if !ok {
			return 0, false
		}
		found := false
		for day := time.Sunday; day <= time.Saturday; day++ {
			if day.String() == name {
				days |= 1 << day
				found = true
			}
		}
		if !found {
			return 0, false
		}
	}
	// An empty list would be no day at all, or all of them.
	return days, days != 0
}

// AllowsTime reports whether the token may be used at a time.
func (s *Scope) AllowsTime(now time.Time) bool {
	return s != nil && (s.window == nil || s.window.includes(now)) && s.alsoTime(now)
}

func (w *window) includes(now time.Time) bool {
	utc := now.UTC()
	if w.business && (utc.Hour() < businessFrom || utc.Hour() >= businessTo) {
		return false
	}
	if w.weekdays && workdays>>utc.Weekday()&1 == 0 {
		return false
	}
	local := now.In(w.zone)
	// The hours after midnight of a window over night belong to the day that
	// they are in, not to the one on which the window began.
	if w.days != 0 && w.days>>local.Weekday()&1 == 0 {
		return false
	}
	if !w.timed {
		return true
	}
	hour, minute, second := local.Clock()
	at := time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute +
		time.Duration(second)*time.Second + time.Duration(local.Nanosecond())
	if w.start > w.end {
		return at >= w.start || at <= w.end
	}
	return w.start <= at && at <= w.end
}
