// The Go client calls every method of a running Taskwell through the generated Go, checks each answer and prints a line
// for each method. It ends with status 1 and a sentence at the first answer that is wrong.
//
//	go run . ADDRESS USER
//
// USER must have no tasks yet.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// deadline is that of all calls together; it only ends what hangs.
const deadline = 30 * time.Second

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go run . ADDRESS USER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

func run(address, user string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()

	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-user-id", user)
	return walk(ctx, taskwellv1.NewTaskServiceClient(conn))
}

// walk takes one task through its life.
func walk(ctx context.Context, tasks taskwellv1.TaskServiceClient) error {
	task, err := create(ctx, tasks)
	if err != nil {
		return fmt.Errorf("CreateTask: %w", err)
	}
	if err := get(ctx, tasks, task); err != nil {
		return fmt.Errorf("GetTask: %w", err)
	}
	if err := list(ctx, tasks, task); err != nil {
		return fmt.Errorf("ListTasks: %w", err)
	}
	task, err = update(ctx, tasks, task)
	if err != nil {
		return fmt.Errorf("UpdateTask: %w", err)
	}
	task, err = complete(ctx, tasks, task)
	if err != nil {
		return fmt.Errorf("CompleteTask: %w", err)
	}
	if err := remove(ctx, tasks, task); err != nil {
		return fmt.Errorf("DeleteTask: %w", err)
	}
	return nil
}

// create sends one request twice, as a retry would: the second must answer the task that the first one made.
func create(ctx context.Context, tasks taskwellv1.TaskServiceClient) (*taskwellv1.Task, error) {
	request := &taskwellv1.CreateTaskRequest{
		Task:      &taskwellv1.Task{Title: "Buy milk", Description: "Two litres"},
		RequestId: newUUID(),
	}
	task, err := tasks.CreateTask(ctx, request)
	if err != nil {
		return nil, err
	}
	switch {
	case task.GetTitle() != "Buy milk" || task.GetDescription() != "Two litres":
		return nil, fmt.Errorf("answered other content: %v", task)
	case task.GetStatus() != taskwellv1.TaskStatus_TASK_STATUS_INCOMPLETE || task.CompleteTime != nil:
		return nil, fmt.Errorf("the new task is not incomplete: %v", task)
	case task.GetId() == "" || task.GetEtag() == "" || !task.GetCreateTime().IsValid():
		return nil, fmt.Errorf("the id, the etag or the create_time is missing: %v", task)
	}

	again, err := tasks.CreateTask(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("sent again: %w", err)
	}
	if !proto.Equal(task, again) {
		return nil, fmt.Errorf("sent again: answered %v, not %v", again, task)
	}
	fmt.Printf("CreateTask    %s made, and the same task answered when sent again\n", task.GetId())
	return task, nil
}

func get(ctx context.Context, tasks taskwellv1.TaskServiceClient, want *taskwellv1.Task) error {
	task, err := tasks.GetTask(ctx, &taskwellv1.GetTaskRequest{Id: want.GetId()})
	if err != nil {
		return err
	}
	if !proto.Equal(task, want) {
		return fmt.Errorf("answered %v, not %v", task, want)
	}
	fmt.Printf("GetTask       %q read as it was created\n", task.GetTitle())
	return nil
}

// list makes four more tasks and walks over all five, two a page.
func list(ctx context.Context, tasks taskwellv1.TaskServiceClient, oldest *taskwellv1.Task) error {
	want := []string{oldest.GetId()}
	for n := range 4 {
		task, err := tasks.CreateTask(ctx, &taskwellv1.CreateTaskRequest{
			Task: &taskwellv1.Task{Title: fmt.Sprintf("Task %d", n)},
		})
		if err != nil {
			return err
		}
		want = append(want, task.GetId())
	}
	slices.Reverse(want) // the newest first

	var got []string
	var sizes []int
	for request := (&taskwellv1.ListTasksRequest{PageSize: 2}); ; {
		page, err := tasks.ListTasks(ctx, request)
		if err != nil {
			return err
		}
		sizes = append(sizes, len(page.GetTasks()))
		for _, task := range page.GetTasks() {
			got = append(got, task.GetId())
		}
		request.PageToken = page.GetNextPageToken()
		if request.PageToken == "" {
			break
		}
	}
	if !slices.Equal(sizes, []int{2, 2, 1}) {
		return fmt.Errorf("pages of %v tasks, not of 2, 2 and 1", sizes)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("met the tasks %v, not %v", got, want)
	}
	fmt.Printf("ListTasks     %d tasks met, the newest first, on pages of %v\n", len(got), sizes)
	return nil
}

// update writes the title alone, and then once more with the etag from before, which is stale by then.
func update(ctx context.Context, tasks taskwellv1.TaskServiceClient, before *taskwellv1.Task) (*taskwellv1.Task, error) {
	request := &taskwellv1.UpdateTaskRequest{
		Task:       &taskwellv1.Task{Id: before.GetId(), Title: "Buy oat milk", Etag: before.GetEtag()},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"title"}},
	}
	task, err := tasks.UpdateTask(ctx, request)
	if err != nil {
		return nil, err
	}
	switch {
	case task.GetTitle() != "Buy oat milk":
		return nil, fmt.Errorf("the title was not written: %v", task)
	case task.GetDescription() != before.GetDescription():
		return nil, fmt.Errorf("the description is not in the mask and was written: %v", task)
	case task.GetEtag() == before.GetEtag():
		return nil, fmt.Errorf("the etag did not change: %v", task)
	}

	request.Task.Title = "Buy bread"
	_, err = tasks.UpdateTask(ctx, request)
	if err := wantRefused(err, codes.Aborted, "ETAG_STALE"); err != nil {
		return nil, fmt.Errorf("with a stale etag: %w", err)
	}
	fmt.Printf("UpdateTask    %q written; ABORTED, ETAG_STALE with the etag from before\n", task.GetTitle())
	return task, nil
}

func complete(ctx context.Context, tasks taskwellv1.TaskServiceClient, before *taskwellv1.Task) (*taskwellv1.Task, error) {
	task, err := tasks.CompleteTask(ctx, &taskwellv1.CompleteTaskRequest{Id: before.GetId(), Etag: before.GetEtag()})
	if err != nil {
		return nil, err
	}
	if task.GetStatus() != taskwellv1.TaskStatus_TASK_STATUS_COMPLETE || !task.GetCompleteTime().IsValid() {
		return nil, fmt.Errorf("the task is not complete: %v", task)
	}
	fmt.Printf("CompleteTask  %v at %s\n", task.GetStatus(), task.GetCompleteTime().AsTime().Format(time.RFC3339Nano))
	return task, nil
}

func remove(ctx context.Context, tasks taskwellv1.TaskServiceClient, task *taskwellv1.Task) error {
	if _, err := tasks.DeleteTask(ctx, &taskwellv1.DeleteTaskRequest{Id: task.GetId(), Etag: task.GetEtag()}); err != nil {
		return err
	}
	_, err := tasks.GetTask(ctx, &taskwellv1.GetTaskRequest{Id: task.GetId()})
	if err := wantRefused(err, codes.NotFound, "TASK_NOT_FOUND"); err != nil {
		return fmt.Errorf("got afterwards: %w", err)
	}
	fmt.Println("DeleteTask    deleted; NOT_FOUND, TASK_NOT_FOUND when it is got afterwards")
	return nil
}

// wantRefused answers nil if err is of this code and carries an ErrorInfo of this reason, else what it is instead.
func wantRefused(err error, code codes.Code, reason string) error {
	if err == nil {
		return errors.New("was not refused")
	}
	answer := status.Convert(err)
	if answer.Code() != code {
		return fmt.Errorf("answered %v, not %v: %s", answer.Code(), code, answer.Message())
	}
	for _, detail := range answer.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			if info.GetReason() != reason || info.GetDomain() != "taskwell.v1" {
				return fmt.Errorf("the ErrorInfo says %s of %s, not %s of taskwell.v1", info.GetReason(), info.GetDomain(), reason)
			}
			return nil
		}
	}
	return fmt.Errorf("%v carries no ErrorInfo", answer)
}

// newUUID makes a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, since Go 1.24
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
