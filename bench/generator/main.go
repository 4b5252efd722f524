// The generator calls one gRPC method over and over with requests that were encoded beforehand, and prints the results
// as one line of JSON. It speaks raw HTTP/2 frames, because it shares its cores with the server that it measures.
//
// Closed loop (the default): on each connection `-streams` calls are always in flight. Open loop (`-rate`): calls start
// at times drawn beforehand (Poisson), whether or not earlier ones have ended, and a latency counts from the time at which
// the call was due.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// patience is the time to wait for calls in flight at the end.
const patience = 15 * time.Second

type options struct {
	address, path, user          string
	bodies                       [][]byte
	users                        []string
	connections, streams         int
	requests                     int64
	seconds, rate                float64
	window                       time.Duration
	bodiesFile, usersFile, cause string
}

// report is the printed line; times in seconds, latencies in microseconds.
type report struct {
	Requests int64            `json:"requests"` // answered, with whatever status
	InTime   int64            `json:"in_time"`  // those of them that were answered before the time was up
	Seconds  float64          `json:"seconds"`  // in which the ones in time were answered
	Statuses map[string]int64 `json:"statuses"` // gRPC status to answers
	Broken   int64            `json:"broken"`   // calls without an answer, connections that could not be made
	Bytes    int64            `json:"bytes"`    // of messages answered, their five-byte prefixes included
	P50      float64          `json:"p50"`
	P99      float64          `json:"p99"`
	Max      float64          `json:"max"`
	Cause    string           `json:"cause"` // of the first break
}

func main() {
	o, err := readOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		os.Exit(2)
	}
	answer, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(answer)
}

func readOptions() (*options, error) {
	o := &options{}
	flag.StringVar(&o.address, "address", "", "host:port of the server")
	flag.StringVar(&o.path, "path", "", "the method, /package.Service/Method")
	flag.StringVar(&o.user, "user", "", "the x-user-id of every call")
	flag.StringVar(&o.usersFile, "users", "", "a file of x-user-ids, one a line, the n-th for the n-th request")
	flag.StringVar(&o.bodiesFile, "bodies", "", "a file of encoded requests, each behind gRPC's five-byte prefix")
	flag.IntVar(&o.connections, "connections", 1, "connections")
	flag.IntVar(&o.streams, "streams", 1, "calls under way on each connection (closed loop)")
	flag.Int64Var(&o.requests, "requests", 0, "end after so many calls; 0 means only the time ends it")
	flag.Float64Var(&o.seconds, "seconds", 1, "end after so many seconds")
	flag.Float64Var(&o.rate, "rate", 0, "calls a second over all connections (open loop)")
	flag.Parse()
	o.window = time.Duration(o.seconds * float64(time.Second))
	data, err := os.ReadFile(o.bodiesFile)
	if err != nil {
		return nil, err
	}
	if o.bodies, err = split(data); err != nil {
		return nil, err
	}
	if o.usersFile != "" {
		data, err := os.ReadFile(o.usersFile)
		if err != nil {
			return nil, err
		}
		o.users = strings.Fields(string(data))
	}
	return o, nil
}

// split separates the requests; each has a length prefix.
func split(data []byte) ([][]byte, error) {
	var bodies [][]byte
	for len(data) >= 5 {
		size := 5 + int(binary.BigEndian.Uint32(data[1:5]))
		if size > len(data) {
			return nil, errors.New("the last request is cut off")
		}
		bodies = append(bodies, data[:size:size])
		data = data[size:]
	}
	if len(bodies) == 0 {
		return nil, errors.New("no requests")
	}
	return bodies, nil
}

// run opens all connections, then starts the load on all of them at once.
func run(o *options) (*report, error) {
	load := &load{options: o}
	opened := make(chan *connection)
	for range o.connections {
		go func() {
			c, err := open(load)
			if err != nil {
				load.broke(err)
			}
			opened <- c
		}()
	}
	var connections []*connection
	for range o.connections {
		if c := <-opened; c != nil {
			connections = append(connections, c)
		}
	}
	if len(connections) == 0 {
		return nil, fmt.Errorf("no connection: %v", *load.cause.Load())
	}
	load.start = time.Now()
	load.end = load.start.Add(o.window)
	done := make(chan struct{})
	for _, c := range connections {
		c.socket.SetDeadline(load.end.Add(patience))
		go func() {
			c.serve()
			done <- struct{}{}
		}()
	}
	if o.rate > 0 {
		load.pace(connections)
	}
	for range connections {
		<-done
	}
	return load.report(connections), nil
}

// load is the state that all connections share.
type load struct {
	*options
	start, end time.Time
	issued     atomic.Int64
	lost       atomic.Int64
	cause      atomic.Pointer[error]
}

// next returns the number of the next call; false when there are no more.
func (l *load) next(now time.Time) (int64, bool) {
	if now.After(l.end) {
		return 0, false
	}
	number := l.issued.Add(1) - 1
	return number, l.requests == 0 || number < l.requests
}

func (l *load) broke(err error) {
	l.lost.Add(1)
	l.cause.CompareAndSwap(nil, &err)
}
