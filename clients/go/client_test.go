package taskwell

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// pages answers ListTasks with three pages of two tasks each; the page token is the number of the page.
func pages(_ int, request proto.Message) (proto.Message, error) {
	page, _ := strconv.Atoi(request.(*taskwellv1.ListTasksRequest).GetPageToken())
	answer := &taskwellv1.ListTasksResponse{}
	for n := range 2 {
		answer.Tasks = append(answer.Tasks, &taskwellv1.Task{Id: strconv.Itoa(2*page + n)})
	}
	if page < 2 {
		answer.NextPageToken = strconv.Itoa(page + 1)
	}
	return answer, nil
}

func TestAWalkMeetsTheTasksOfAllPages(t *testing.T) {
	t.Parallel()
	client, server := serve(t, pages, bob)
	request := &taskwellv1.ListTasksRequest{PageSize: 2, OrderBy: "create_time"}
	tasks := client.All(t.Context(), request)
	for range 2 { // it can be walked again
		var ids []string
		for task, err := range tasks {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, task.GetId())
		}
		if want := []string{"0", "1", "2", "3", "4", "5"}; !slices.Equal(ids, want) {
			t.Errorf("met %v, not %v", ids, want)
		}
	}
	if len(server.attempts) != 6 {
		t.Errorf("%d pages asked for, not 6", len(server.attempts))
	}
	for _, attempt := range server.attempts {
		received := attempt.request.(*taskwellv1.ListTasksRequest)
		if received.GetPageSize() != 2 || received.GetOrderBy() != "create_time" {
			t.Errorf("asked for %v", received)
		}
	}
	if request.GetPageToken() != "" {
		t.Error("the caller's request was changed")
	}
}

func TestAWalkAsksForAPageOnlyWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	client, server := serve(t, pages, bob)
	met := 0
	for _, err := range client.All(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		met++
		if asked := len(server.attempts); asked != (met+1)/2 {
			t.Errorf("%d pages asked for after %d tasks", asked, met)
		}
		if met == 3 {
			break
		}
	}
	if len(server.attempts) != 2 {
		t.Errorf("%d pages asked for, not 2", len(server.attempts))
	}
}

func TestAWalkEndsWithTheErrorOfAPage(t *testing.T) {
	t.Parallel()
	client, _ := serve(t, func(number int, request proto.Message) (proto.Message, error) {
		if number == 2 {
			return nil, status.Error(codes.InvalidArgument, "page_token cannot be used")
		}
		return pages(number, request)
	}, bob)
	met := 0
	var failed error
	for task, err := range client.All(t.Context(), nil) {
		switch {
		case failed != nil:
			t.Error("went on after the error")
		case err != nil && task != nil:
			t.Errorf("a task with an error: %v", task)
		case err != nil:
			failed = err
		default:
			met++
		}
	}
	if met != 2 || !errors.Is(failed, ErrInvalidArgument) {
		t.Errorf("met %d tasks, then %v", met, failed)
	}
}
