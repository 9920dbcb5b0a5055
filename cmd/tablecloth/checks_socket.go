package main

import (
	"fmt"
	"strconv"
	"time"
)

// checkSockets looks at what starts the service.
func checkSockets(p *patient) []finding {
	var all []finding
	for _, s := range p.sockets {
		for _, check := range []func(socketFile) *finding{checkAccept, checkTriggerLimit} {
			if f := check(s); f != nil {
				f.Unit = s.name
				all = append(all, *f)
			}
		}
	}
	return all
}

func checkAccept(s socketFile) *finding {
	if !s.isOn("Socket.Accept") {
		return nil
	}
	return found("Accept", "with Accept=yes systemd starts a process for each connection: the service never has the socket",
		[]string{"[Socket]", "Accept=no"})
}

// Defaults of systemd.socket(5), without Accept=.
const (
	defaultTriggerInterval = 2 * time.Second
	defaultTriggerBurst    = 20
	defaultPolls           = 15 // from 255 on; before there is no such limit
)

// checkTriggerLimit: while the service is down a connect starts it. A poll limit
// that was chosen to be the lower one only makes connections wait.
func checkTriggerLimit(s socketFile) *finding {
	interval, burst, _ := s.limit("TriggerLimit", defaultTriggerInterval, defaultTriggerBurst)
	if interval == 0 || burst == 0 {
		return nil
	}
	if every, polls, given := s.limit("PollLimit", defaultTriggerInterval, defaultPolls); given && every >= interval && polls > 0 && polls < burst {
		return nil
	}
	return found("TriggerLimit", fmt.Sprintf("more than %d starts within %v, as when the service dies again and again, fail the socket: from then on it refuses",
		burst, interval), []string{"[Socket]", "TriggerLimitIntervalSec=0"})
}

// limit reads a pair of IntervalSec= and Burst=.
func (s socketFile) limit(name string, every time.Duration, times int) (time.Duration, int, bool) {
	d, given := s.span("Socket." + name + "IntervalSec")
	if given {
		every = d
	}
	n, err := strconv.Atoi(s.last("Socket." + name + "Burst"))
	if err == nil {
		times = n
	}
	return every, times, given || err == nil
}
