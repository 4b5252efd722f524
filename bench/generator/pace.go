package main

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// pace makes the calls of the open loop, in turn on each connection, at exponentially distributed intervals. The seed is
// fixed: every run draws the same times.
func (l *load) pace(connections []*connection) {
	random := rand.New(rand.NewPCG(1, 2))
	due := l.start
	for number := int64(0); due.Before(l.end) && (l.requests == 0 || number < l.requests); number++ {
		if early := time.Until(due); early > 0 {
			time.Sleep(early)
		}
		c := connections[number%int64(len(connections))]
		c.mutex.Lock()
		if c.closing {
			l.broke(nil)
		} else {
			c.send(call{number, due})
			c.writer.Flush()
		}
		c.mutex.Unlock()
		due = due.Add(time.Duration(random.ExpFloat64() / l.rate * float64(time.Second)))
	}
	for _, c := range connections {
		c.mutex.Lock()
		c.closing = true
		if len(c.due) == 0 && len(c.waiting) == 0 {
			c.socket.SetReadDeadline(time.Now()) // nothing will come any more that would end its reading
		}
		c.mutex.Unlock()
	}
}

// report sums up the connections.
func (l *load) report(connections []*connection) *report {
	sum := &report{Statuses: map[string]int64{}, Broken: l.lost.Load()}
	var latencies []uint32
	var last time.Time
	for _, c := range connections {
		sum.InTime += c.inTime
		sum.Bytes += c.bytes
		latencies = append(latencies, c.latencies...)
		if c.last.After(last) {
			last = c.last
		}
		for status, count := range c.statuses {
			if count > 0 {
				sum.Statuses[strconv.Itoa(status)] += count
			}
		}
	}
	sum.Requests = int64(len(latencies))
	sum.Seconds = min(l.window, last.Sub(l.start)).Seconds()
	if len(latencies) > 0 {
		slices.Sort(latencies)
		sum.P50 = float64(latencies[len(latencies)/2])
		sum.P99 = float64(latencies[len(latencies)*99/100])
		sum.Max = float64(latencies[len(latencies)-1])
	}
	if cause := l.cause.Load(); cause != nil && *cause != nil {
		sum.Cause = (*cause).Error()
	}
	return sum
}
