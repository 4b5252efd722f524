// Package taskwell connects Go programs to a Taskwell service.
//
// [Dial] answers a [Client] that has the six methods of the contract, generated in
// [example.com/taskwell/taskwell/v1], over a connection that is set up for production:
//
//   - The user is sent with every call: [WithUser], [WithToken] or [WithTokenSource], or [AsUser] for a single call.
//   - A call whose context has no deadline gets one ([DefaultTimeout], [WithTimeout]).
//   - A call that the service could not take (UNAVAILABLE) is sent again, up to four times in all with growing pauses,
//     unless a second answer could mislead: an update, completion or deletion with an etag, and a deletion without
//     allow_missing, are sent again only while they have not left this machine. Where many calls fail, retries stop.
//   - CreateTask gets a request_id if it has none, so that a create whose answer was lost makes one task, not two.
//   - Calls are spread over all addresses of the service, and a dead connection is noticed while it is idle.
//   - Errors match [ErrNotFound] and the like; [Reason], [Violations] and [RetryDelay] read their details.
//
// [Client.All] walks the pages of ListTasks.
package taskwell

import (
	"context"
	"fmt"
	"iter"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A Client calls a Taskwell service. It is safe for concurrent use; make one and keep it.
type Client struct {
	taskwellv1.TaskServiceClient
	conns *inTurn
}

// Dial prepares a client of the service at target, such as "localhost:50051", "dns:///tasks.example:50051" or
// "unix:///run/taskwell.sock". It connects with the first call, in plain text unless an option asks for TLS.
//
// The error tells which option cannot be used, and why.
func Dial(target string, opts ...Option) (*Client, error) {
	settings, err := settingsOf(opts)
	if err != nil {
		return nil, fmt.Errorf("taskwell: %w", err)
	}
	conns, err := settings.connect(target)
	if err != nil {
		return nil, fmt.Errorf("taskwell: %w", err)
	}
	return &Client{taskwellv1.NewTaskServiceClient(conns), conns}, nil
}

// Close ends the connections. Calls under way fail.
func (c *Client) Close() error {
	return c.conns.close()
}

// Conn is what the calls go over, for other services of the same server, such as grpc.health.v1.Health.
func (c *Client) Conn() grpc.ClientConnInterface {
	return c.conns
}

// All walks over the tasks that ListTasks answers to a request, or over all tasks if it is nil, and asks for a page when
// the one before is used up. A failed call is yielded as the last pair, with a nil task. The request is not changed;
// its page_size says how many tasks are fetched at a time.
//
//	for task, err := range client.All(ctx, nil) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(task.GetTitle())
//	}
func (c *Client) All(ctx context.Context, request *taskwellv1.ListTasksRequest) iter.Seq2[*taskwellv1.Task, error] {
	return func(yield func(*taskwellv1.Task, error) bool) {
		next := &taskwellv1.ListTasksRequest{}
		proto.Merge(next, request)
		for {
			page, err := c.ListTasks(ctx, next)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, task := range page.GetTasks() {
				if !yield(task, nil) {
					return
				}
			}
			next.PageToken = page.GetNextPageToken()
			if next.PageToken == "" {
				return
			}
		}
	}
}
