// Makes the six calls with the client that oapi-codegen generates. Arguments: URL and user.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/google/uuid"

	"example.com/generated/client"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func check(holds bool, what string) {
	if !holds {
		log.Fatal(what)
	}
}

func main() {
	asUser := client.WithRequestEditorFn(func(_ context.Context, request *http.Request) error {
		request.Header.Set("x-user-id", os.Args[2])
		return nil
	})
	api, ctx := must(client.NewClientWithResponses(os.Args[1], asUser)), context.Background()

	requestID := uuid.New()
	task := must(api.CreateTaskWithResponse(ctx, &client.CreateTaskParams{RequestId: &requestID}, client.CreateTaskBody{Title: "Buy milk"})).JSON200
	check(task.Title == "Buy milk" && task.UpdateTime.Equal(task.CreateTime), "CreateTask")
	check(must(api.GetTaskWithResponse(ctx, task.Id, nil)).JSON200.Etag == task.Etag, "GetTask")
	incomplete := client.TaskStatusTASKSTATUSINCOMPLETE
	page := must(api.ListTasksWithResponse(ctx, &client.ListTasksParams{Status: &incomplete})).JSON200
	check(len(page.Tasks) == 1 && page.Tasks[0].Id == task.Id, "ListTasks")
	title, etag := "Buy oat milk", `"`+task.Etag+`"`
	changed := must(api.UpdateTaskWithResponse(ctx, task.Id, &client.UpdateTaskParams{IfMatch: &etag}, client.UpdateTaskBody{Title: &title})).JSON200
	check(changed.Title == title, "UpdateTask")
	done := must(api.CompleteTaskWithResponse(ctx, task.Id, nil)).JSON200
	check(done.Status == client.TaskStatusTASKSTATUSCOMPLETE && done.CompleteTime != nil, "CompleteTask")
	check(must(api.DeleteTaskWithResponse(ctx, task.Id, nil)).StatusCode() == 200, "DeleteTask")

	missing := must(api.GetTaskWithResponse(ctx, task.Id, nil)).JSON404
	info := must(missing.Details[0].AsErrorInfo())
	check(info.Reason == "TASK_NOT_FOUND", "ErrorInfo")
	token := "another"
	invalid := must(api.ListTasksWithResponse(ctx, &client.ListTasksParams{PageToken: &token})).JSON400
	fields := must(invalid.Details[1].AsBadRequest())
	check(fields.FieldViolations[0].Field == "page_token", "BadRequest")
	fmt.Println("six calls")
}
