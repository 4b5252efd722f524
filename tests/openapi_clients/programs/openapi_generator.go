// Makes the six calls with the Go client that openapi-generator generates. Arguments: URL and user.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	client "example.com/generated/client"
)

func must[T any](value T, _ any, err error) T {
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
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	configuration.AddDefaultHeader("x-user-id", os.Args[2])
	api, ctx := client.NewAPIClient(configuration).TaskServiceAPI, context.Background()

	task := must(api.CreateTask(ctx).CreateTaskBody(*client.NewCreateTaskBody("Buy milk")).
		RequestId("6ba7b810-9dad-41d1-80b4-00c04fd430c8").Execute())
	check(task.Title == "Buy milk" && task.UpdateTime.Equal(task.CreateTime), "CreateTask")
	check(must(api.GetTask(ctx, task.Id).Execute()).Etag == task.Etag, "GetTask")
	page := must(api.ListTasks(ctx).Status(client.TASK_STATUS_INCOMPLETE).Execute())
	check(len(page.Tasks) == 1 && page.Tasks[0].Id == task.Id, "ListTasks")
	changes := client.NewUpdateTaskBody()
	changes.SetTitle("Buy oat milk")
	changed := must(api.UpdateTask(ctx, task.Id).UpdateTaskBody(*changes).IfMatch(`"` + task.Etag + `"`).Execute())
	check(changed.Title == "Buy oat milk", "UpdateTask")
	done := must(api.CompleteTask(ctx, task.Id).Execute())
	check(done.Status == client.TASK_STATUS_COMPLETE && done.CompleteTime != nil, "CompleteTask")
	must(api.DeleteTask(ctx, task.Id).Execute())

	_, _, err := api.GetTask(ctx, task.Id).Execute()
	status, known := err.(*client.GenericOpenAPIError).Model().(client.Status)
	check(known && status.Details[0].ErrorInfo.Reason == "TASK_NOT_FOUND", "ErrorInfo")
	_, _, err = api.ListTasks(ctx).PageToken("another").Execute()
	status, known = err.(*client.GenericOpenAPIError).Model().(client.Status)
	check(known && status.Details[1].BadRequest.FieldViolations[0].Field == "page_token", "BadRequest")
	fmt.Println("six calls")
}
