package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	window     = 1 << 30 // bytes that the server may send before it needs more credit
	giveBack   = 1 << 28 // bytes received after which credit is given back
	bufferSize = 64 << 10
	noStatus   = -1
)

// connection is one HTTP/2 connection: one goroutine reads; the pacer of the open loop writes beside it.
type connection struct {
	load   *load
	socket net.Conn
	reader *bufio.Reader
	framer *http2.Framer

	mutex   sync.Mutex // guards all below
	writer  *bufio.Writer
	headers []byte // the header block of every request; its entries are in the server's table after the first
	encoder *hpack.Encoder
	encoded bytes.Buffer
	nextID  uint32
	credit  int64 // bytes that may be sent
	waiting []call
	due     map[uint32]time.Time // when each call under way began
	closing bool                 // no more calls will be made

	decoder  *hpack.Decoder
	status   int // of the header block that is being read, and its sentence
	message  string
	received uint32

	statuses  [18]int64 // the last one: none or an unknown one
	latencies []uint32  // microseconds
	inTime    int64
	last      time.Time
	bytes     int64
}

type call struct {
	number int64
	due    time.Time
}

// open connects, and exchanges the HTTP/2 connection prefaces.
func open(l *load) (*connection, error) {
	socket, err := net.DialTimeout("tcp", l.address, patience)
	if err != nil {
		return nil, err
	}
	c := &connection{load: l, socket: socket, nextID: 1, credit: 65535, due: map[uint32]time.Time{}}
	c.reader = bufio.NewReaderSize(socket, bufferSize)
	c.writer = bufio.NewWriterSize(socket, bufferSize)
	c.framer = http2.NewFramer(c.writer, c.reader)
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.encoded)
	c.decoder = hpack.NewDecoder(4096, c.header)
	c.writer.WriteString(http2.ClientPreface)
	c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
	)
	c.framer.WriteWindowUpdate(0, window)
	if err := c.writer.Flush(); err != nil {
		return nil, err
	}
	socket.SetDeadline(time.Now().Add(patience))
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return nil, err
	}
	return c, c.handle(frame)
}

// serve keeps calls in flight until the load ends and the last response has come.
func (c *connection) serve() {
	defer c.socket.Close()
	c.mutex.Lock()
	if c.load.rate == 0 {
		for range c.load.streams {
			c.begin()
		}
	}
	err := c.writer.Flush()
	for err == nil && !(c.closing && len(c.due) == 0 && len(c.waiting) == 0) {
		c.mutex.Unlock()
		var frame http2.Frame
		frame, err = c.framer.ReadFrame()
		c.mutex.Lock()
		if err == nil {
			err = c.handle(frame)
		}
		if err == nil && c.reader.Buffered() == 0 {
			err = c.writer.Flush()
		}
	}
	for range len(c.due) + len(c.waiting) {
		c.load.broke(fmt.Errorf("connection lost: %w", err))
	}
	c.closing = true
	c.mutex.Unlock()
}

// begin makes the next call of the closed loop.
func (c *connection) begin() {
	now := time.Now()
	if number, more := c.load.next(now); more {
		c.send(call{number, now})
	} else {
		c.closing = true
	}
}

// send makes a call, or queues it until the flow-control window has room for its bytes.
func (c *connection) send(next call) {
	body := c.load.bodies[next.number%int64(len(c.load.bodies))]
	if int64(len(body)) > c.credit {
		c.waiting = append(c.waiting, next)
		return
	}
	id := c.nextID
	c.nextID += 2
	c.credit -= int64(len(body))
	c.due[id] = next.due
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(next.number), EndHeaders: true})
	c.framer.WriteData(id, true, body)
}

// block is the header block of a request.
func (c *connection) block(number int64) []byte {
	if c.load.users == nil && c.headers != nil {
		return c.headers
	}
	user := c.load.user
	if c.load.users != nil {
		user = c.load.users[number%int64(len(c.load.users))]
	}
	c.encoded.Reset()
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: c.load.path},
		{Name: ":authority", Value: c.load.address},
		{Name: "te", Value: "trailers"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "user-agent", Value: "taskwell-bench"},
		{Name: "x-user-id", Value: user, Sensitive: c.load.users != nil}, // one of many is not worth an entry
	} {
		c.encoder.WriteField(field)
	}
	if c.nextID > 3 { // from the second request on, every block is the same
		c.headers = bytes.Clone(c.encoded.Bytes())
	}
	return c.encoded.Bytes()
}

// handle takes a frame from the server.
func (c *connection) handle(frame http2.Frame) error {
	switch frame := frame.(type) {
	case *http2.HeadersFrame:
		c.status = noStatus
		return c.fields(frame.HeaderBlockFragment(), frame.HeadersEnded(), frame.StreamID, frame.StreamEnded())
	case *http2.ContinuationFrame:
		return errors.New("a header block in several frames")
	case *http2.DataFrame:
		c.bytes += int64(len(frame.Data()))
		c.received += frame.Length
		if c.received > giveBack {
			c.framer.WriteWindowUpdate(0, c.received)
			c.received = 0
		}
		if frame.StreamEnded() {
			c.finish(frame.StreamID)
		}
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			return c.framer.WritePing(true, frame.Data)
		}
	case *http2.WindowUpdateFrame:
		if frame.StreamID == 0 {
			c.credit += int64(frame.Increment)
			waiting := c.waiting
			c.waiting = nil
			for _, each := range waiting {
				c.send(each)
			}
		}
	case *http2.RSTStreamFrame:
		if _, underWay := c.due[frame.StreamID]; underWay {
			delete(c.due, frame.StreamID)
			c.load.broke(fmt.Errorf("stream reset: %v", frame.ErrCode))
			c.proceed()
		}
	case *http2.GoAwayFrame:
		c.load.cause.CompareAndSwap(nil, ptr(fmt.Errorf("server goes away: %v %s", frame.ErrCode, frame.DebugData())))
	}
	return nil
}

func (c *connection) fields(block []byte, whole bool, stream uint32, ended bool) error {
	if !whole {
		return errors.New("a header block in several frames")
	}
	if _, err := c.decoder.Write(block); err != nil {
		return err
	}
	if ended {
		c.finish(stream)
	}
	return c.decoder.Close()
}

func (c *connection) header(field hpack.HeaderField) {
	switch field.Name {
	case "grpc-status":
		if status, err := strconv.Atoi(field.Value); err == nil && 0 <= status && status < len(c.statuses)-1 {
			c.status = status
		}
	case "grpc-message":
		c.message = field.Value
	}
}

// finish counts a response and, in the closed loop, makes the next call.
func (c *connection) finish(stream uint32) {
	due, underWay := c.due[stream]
	if !underWay {
		return
	}
	delete(c.due, stream)
	c.last = time.Now()
	c.latencies = append(c.latencies, uint32(c.last.Sub(due).Microseconds()))
	if c.last.Before(c.load.end) {
		c.inTime++
	}
	if c.status == noStatus {
		c.status = len(c.statuses) - 1
	}
	if c.status != 0 {
		c.load.cause.CompareAndSwap(nil, ptr(fmt.Errorf("status %d: %s", c.status, c.message)))
	}
	c.statuses[c.status]++
	c.status = noStatus
	c.proceed()
}

func (c *connection) proceed() {
	if c.load.rate == 0 && !c.closing {
		c.begin()
	}
}

func ptr[T any](value T) *T { return &value }
