package clock

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

func FuzzTimes(f *testing.F) {
	for _, sec := range []int64{0, math.MaxInt64, math.MinInt64, 1.8e9, 1.8e12, 1.8e18, Max.Unix(), Max.Unix() + 1, Min.Unix(), Min.Unix() - 1} {
		for _, d := range []int64{0, 1, -1, math.MaxInt64, math.MinInt64} {
			f.Add(sec, d, int64(3))
		}
	}
	f.Add(int64(0), int64(math.MinInt64), int64(-1))
	f.Fuzz(func(t *testing.T, sec, d, n int64) {
		at, by := time.Unix(sec, d%1e9), time.Duration(d)
		if _, err := json.Marshal(at.UTC()); (err != nil) != (Check(at) != nil) && at.UTC().Year() != 0 {
			t.Errorf("Check(%d s) is %v, JSON says %v", sec, Check(at), err)
		}
		sum := Add(at, by)
		if sum.Before(Min) || sum.After(Max) {
			t.Errorf("Add(%v, %v) is %v, which cannot be kept", at, by, sum)
		}
		if want := at.Add(by); Check(at) == nil && Check(want) == nil && !sum.Equal(want) {
			t.Errorf("Add(%v, %v) is %v, want %v", at, by, sum, want)
		}
		if ms := CeilMillis(at); Check(at) == nil && FromMillis(ms).Before(at) && ms != maxMillis {
			t.Errorf("CeilMillis(%v) is %v, which is before it", at, FromMillis(ms))
		}
		for _, zone := range []*time.Location{time.FixedZone("east", 14*60*60), time.FixedZone("west", -12*60*60)} {
			at := FromMillis(sec)
			if at.Location() == time.Local {
				at = at.In(zone)
			}
			if _, err := json.Marshal(at); err != nil {
				t.Errorf("FromMillis(%d): %v", sec, err)
			}
		}
		if got, exact := Sum(by, time.Duration(n)), float64(d)+float64(n); math.Abs(float64(got)-math.Max(math.Min(exact, math.MaxInt64), math.MinInt64)) > math.Abs(exact)/1e12+1 {
			t.Errorf("Sum(%v, %d) is %v, want about %g", by, n, got, exact)
		}
		if got, exact := Mul(by, n), float64(d)*float64(n); math.Abs(float64(got)-math.Max(math.Min(exact, math.MaxInt64), math.MinInt64)) > math.Abs(exact)/1e12 {
			t.Errorf("Mul(%v, %d) is %v, want about %g", by, n, got, exact)
		}
	})
}

func TestCeil(t *testing.T) {
	at := time.UnixMilli(5)
	for _, test := range []struct{ t, want time.Time }{
		{time.Time{}, time.Time{}}, {at, at}, {at.Add(1), at.Add(time.Millisecond)}, {at.Add(time.Millisecond - 1), at.Add(time.Millisecond)},
	} {
		if got := Ceil(test.t); !got.Equal(test.want) {
			t.Errorf("Ceil(%v) = %v, want %v", test.t, got, test.want)
		}
	}
}
