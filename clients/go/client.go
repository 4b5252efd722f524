// Package taskwell connects Go programs to a Taskwell service.
//
// [Dial] returns a [Client] that has the methods of the contract, generated in
// [example.com/taskwell/taskwell/v1], over a connection that is set up for production:
//
//   - The user is sent with every call: [WithUser], [WithToken] or [WithTokenSource], or [AsUser] for a single call.
//   - A call whose context has no deadline gets one ([DefaultTimeout], [WithTimeout]).
//   - A call that failed as UNAVAILABLE, or that the server cancelled, is retried with backoff, up to four attempts in all.
//     An update, completion or deletion with an etag, and a deletion without allow_missing, are retried only while they
//     have not left this machine, because their repetition would fail. While many calls fail, retries stop.
//   - A call that the service refused as RESOURCE_EXHAUSTED is sent again when the service says, until its deadline.
//   - CreateTask gets a request_id if it has none, so that a create whose response was lost makes one task, not two.
//   - Calls are spread over all addresses of the service that are SERVING, and a dead connection is noticed while it is idle.
//   - Errors match [ErrNotFound] and the like; [Reason], [Violations] and [RetryDelay] read their details.
//
// [Client.All] iterates over the pages of ListTasks.
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
// The error names the option that is invalid, and the reason.
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

// Close closes the connections. Calls in flight fail.
func (c *Client) Close() error {
	return c.conns.close()
}

// Conn returns the connections, for other services of the same server, such as grpc.health.v1.Health.
func (c *Client) Conn() grpc.ClientConnInterface {
	return c.conns
}

// All iterates over the tasks that match a ListTasks request, or over all tasks if it is nil, and fetches a page whenever it
// needs one. A failed call is yielded as the last pair, with a nil task. The request is not changed; its page_size is the
// number of tasks to fetch at a time.
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
