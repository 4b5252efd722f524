// Walk prints every task of a user and counts them by status.
//
//	go run . -target 127.0.0.1:50051 -user alice
//
// Tasks that are created or deleted meanwhile may or may not be printed; each of the others is printed exactly once.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"example.com/taskwell/taskwell"
	taskwellv1 "example.com/taskwell/taskwell/v1"
)

func main() {
	target := flag.String("target", "127.0.0.1:50051", "where Taskwell serves gRPC")
	user := flag.String("user", "", "whose tasks to print")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := walk(ctx, *target, *user); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func walk(ctx context.Context, target, user string) error {
	client, err := taskwell.Dial(target, taskwell.WithUser(user))
	if err != nil {
		return err
	}
	defer client.Close()

	counts := map[taskwellv1.TaskStatus]int{}
	// The largest pages need the fewest calls.
	for task, err := range client.All(ctx, &taskwellv1.ListTasksRequest{PageSize: 1000}) {
		if err != nil {
			return err
		}
		counts[task.GetStatus()]++
		fmt.Println(task.GetId(), name(task.GetStatus()), task.GetTitle())
	}
	for _, status := range []taskwellv1.TaskStatus{
		taskwellv1.TaskStatus_TASK_STATUS_INCOMPLETE,
		taskwellv1.TaskStatus_TASK_STATUS_COMPLETE,
	} {
		fmt.Println(counts[status], name(status))
	}
	return nil
}

// name is "complete" for TASK_STATUS_COMPLETE.
func name(status taskwellv1.TaskStatus) string {
	return strings.ToLower(strings.TrimPrefix(status.String(), "TASK_STATUS_"))
}
