package live

import "time"

var epoch = time.Now()

// now is a clock that costs half of time.Now and isn't set back.
func now() int64 { return int64(time.Since(epoch)) }

// at is the time that now told.
func at(t int64) time.Time { return epoch.Add(time.Duration(t)) }

// stamp is the inverse of at.
func stamp(t time.Time) int64 { return int64(t.Sub(epoch)) }
