package taskwell

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// cutter forwards connections to a service, and closes one when it sees the beginning of a response: the call has taken
// effect by then, but its client does not learn of it.
type cutter struct {
	address string
	every   int64 // answer that is lost
	answers atomic.Int64
	cuts    atomic.Int64
}

// cutting returns a cutter in front of this service that loses every n-th response.
func cutting(t *testing.T, service string, every int64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	c := &cutter{address: listener.Addr().String(), every: every}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			go c.forward(near, service)
		}
	}()
	return c
}

func (c *cutter) forward(near net.Conn, service string) {
	defer near.Close()
	far, err := net.Dial("tcp", service)
	if err != nil {
		return
	}
	defer far.Close()
	go func() {
		defer far.Close()
		io.Copy(far, near)
	}()
	c.answer(near, far)
}

// answer forwards HTTP/2 frames (RFC 9113, 4.1) to the client until a response is to be lost.
func (c *cutter) answer(near io.Writer, far io.Reader) {
	const headers = 0x1
	begun := map[uint32]bool{} // streams that have an answer; its trailers are headers too
	for header := make([]byte, 9); ; {
		if _, err := io.ReadFull(far, header); err != nil {
			return
		}
		frame := make([]byte, 9+binary.BigEndian.Uint32(append([]byte{0}, header[:3]...)))
		copy(frame, header)
		if _, err := io.ReadFull(far, frame[9:]); err != nil {
			return
		}
		stream := binary.BigEndian.Uint32(header[5:])
		if header[3] == headers && !begun[stream] {
			begun[stream] = true
			if c.answers.Add(1)%c.every == 0 {
				c.cuts.Add(1)
				return
			}
		}
		if _, err := near.Write(frame); err != nil {
			return
		}
	}
}
