//! Calls Taskwell with tonic:   cargo run -- 127.0.0.1:50051 alice

use std::time::Duration;

use taskwell::v1::task_service_client::TaskServiceClient;
use taskwell::v1::{
    CompleteTaskRequest, CreateTaskRequest, DeleteTaskRequest, GetTaskRequest, ListTasksRequest, Task,
    UpdateTaskRequest,
};
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;
use tonic::Request;
use tonic_types::StatusExt;

// The generated modules, nested as the packages of the proto.
#[allow(clippy::doc_lazy_continuation, clippy::doc_overindented_list_items)]
mod taskwell {
    pub mod v1 {
        tonic::include_proto!("taskwell.v1");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().ok_or("the target is missing")?;
    let user: AsciiMetadataValue = arguments.next().ok_or("the user is missing")?.parse()?;

    let endpoint = Endpoint::from_shared(format!("http://{target}"))?.timeout(Duration::from_secs(10));
    let as_user = move |mut request: Request<()>| {
        request.metadata_mut().insert("x-user-id", user.clone());
        Ok(request)
    };
    let mut client = TaskServiceClient::with_interceptor(endpoint.connect().await?, as_user);

    let titled = |title: &str| Task { title: title.into(), ..Task::default() };
    let request_id = uuid::Uuid::new_v4().to_string();
    let task = client.create_task(CreateTaskRequest { task: Some(titled("Buy milk")), request_id }).await?.into_inner();
    println!("CreateTask: {} {}", task.title, task.status().as_str_name());
    let id = task.id.clone();
    let got = client.get_task(GetTaskRequest { id: id.clone() }).await?.into_inner();
    println!("GetTask: {}", got.title);
    let page = client.list_tasks(ListTasksRequest { page_size: 10, ..Default::default() }).await?.into_inner();
    println!("ListTasks: {}", page.tasks.len());
    let changes = UpdateTaskRequest {
        task: Some(Task { id: id.clone(), etag: task.etag, ..titled("Buy oat milk") }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["title".into()] }),
    };
    println!("UpdateTask: {}", client.update_task(changes).await?.into_inner().title);
    let done = client.complete_task(CompleteTaskRequest { id: id.clone(), ..Default::default() }).await?.into_inner();
    println!("CompleteTask: {}", done.status().as_str_name());
    client.delete_task(DeleteTaskRequest { id: id.clone(), ..Default::default() }).await?;
    println!("DeleteTask: done");

    let missing = client.get_task(GetTaskRequest { id }).await.expect_err("the task is deleted");
    let info = missing.get_details_error_info().ok_or("there is no ErrorInfo")?;
    println!("ErrorInfo: {:?} {}", missing.code(), info.reason);
    let untitled = CreateTaskRequest { task: Some(titled("")), ..Default::default() };
    let invalid = client.create_task(untitled).await.expect_err("a task needs a title");
    for violation in invalid.get_details_bad_request().ok_or("there is no BadRequest")?.field_violations {
        println!("BadRequest: {} {}", violation.field, violation.description);
    }

    // With a rate limit, a caller that is too fast is told how long to wait.
    for _ in 0..100 {
        let Err(error) = client.list_tasks(ListTasksRequest::default()).await else { continue };
        let delay = error.get_details_retry_info().and_then(|info| info.retry_delay).ok_or("there is no RetryInfo")?;
        println!("RetryInfo: {:?} {}", error.code(), if delay > Duration::ZERO { "wait" } else { "now" });
        break;
    }
    Ok(())
}
