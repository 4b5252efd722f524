// A server as a Go programmer would write it: grpc-go, pgx's pool, one statement for each call. It serves Taskwell's
// contract on Taskwell's tables without Taskwell's refinements: the caller is whoever the metadata names, titles are
// checked for their length, pages have no tokens.
//
//	go run . DATABASE
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	taskwellv1 "example.com/taskwell/taskwell/v1"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// connections is the pool size, the same as the Python peers have.
const connections = 15

const (
	columns = "id::text, title, description, status, version, created_at, updated_at, completed_at"
	get     = "SELECT " + columns + " FROM tasks WHERE user_id = $1 AND id = $2"
	list    = "SELECT " + columns + " FROM tasks WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2"
	// One statement, which also inserts the user's row if it is missing.
	create = `WITH new_user AS (INSERT INTO users (id, created_at) VALUES ($1, $5) ON CONFLICT DO NOTHING)
INSERT INTO tasks (user_id, id, title, description, status, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, 1, $5, $5)`
)

type server struct {
	taskwellv1.UnimplementedTaskServiceServer
	pool *pgxpool.Pool
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "pgx:", err)
		os.Exit(1)
	}
}

func serve() error {
	config, err := pgxpool.ParseConfig(os.Args[1])
	if err != nil {
		return err
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return err
	}
	defer pool.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	tasks := grpc.NewServer()
	taskwellv1.RegisterTaskServiceServer(tasks, &server{pool: pool})
	stopping := make(chan os.Signal, 1)
	signal.Notify(stopping, syscall.SIGTERM)
	go func() {
		<-stopping
		tasks.Stop()
	}()
	fmt.Println("gRPC listening on", listener.Addr())
	return tasks.Serve(listener)
}

func (s *server) CreateTask(ctx context.Context, request *taskwellv1.CreateTaskRequest) (*taskwellv1.Task, error) {
	user, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	title := request.GetTask().GetTitle()
	if length := utf8.RuneCountInString(title); length < 1 || length > 255 {
		return nil, status.Error(codes.InvalidArgument, "title must have 1 to 255 characters")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	now := time.Now().Truncate(time.Microsecond)
	description := request.GetTask().GetDescription()
	if _, err := s.pool.Exec(ctx, create, user, id.String(), title, description, now); err != nil {
		return nil, status.Error(codes.Internal, "the database failed")
	}
	return &taskwellv1.Task{
		Id:          id.String(),
		Title:       title,
		Description: description,
		Status:      taskwellv1.TaskStatus_TASK_STATUS_INCOMPLETE,
		CreateTime:  timestamppb.New(now),
		UpdateTime:  timestamppb.New(now),
		Etag:        "1",
	}, nil
}

func (s *server) GetTask(ctx context.Context, request *taskwellv1.GetTaskRequest) (*taskwellv1.Task, error) {
	user, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	task, err := scan(s.pool.QueryRow(ctx, get, user, request.GetId()))
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, status.Error(codes.NotFound, "there is no such task")
	}
	if err != nil {
		return nil, status.Error(codes.Internal, "the database failed")
	}
	return task, nil
}

func (s *server) ListTasks(ctx context.Context, request *taskwellv1.ListTasksRequest) (*taskwellv1.ListTasksResponse, error) {
	user, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, list, user, request.GetPageSize())
	if err != nil {
		return nil, status.Error(codes.Internal, "the database failed")
	}
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*taskwellv1.Task, error) { return scan(row) })
	if err != nil {
		return nil, status.Error(codes.Internal, "the database failed")
	}
	return &taskwellv1.ListTasksResponse{Tasks: tasks}, nil
}

func scan(row pgx.Row) (*taskwellv1.Task, error) {
	var (
		task             taskwellv1.Task
		state            int16
		version          int64
		created, updated time.Time
		completed        *time.Time
	)
	err := row.Scan(&task.Id, &task.Title, &task.Description, &state, &version, &created, &updated, &completed)
	if err != nil {
		return nil, err
	}
	task.Status = taskwellv1.TaskStatus(state)
	task.Etag = strconv.FormatInt(version, 10)
	task.CreateTime, task.UpdateTime = timestamppb.New(created), timestamppb.New(updated)
	if completed != nil {
		task.CompleteTime = timestamppb.New(*completed)
	}
	return &task, nil
}

func caller(ctx context.Context) (string, error) {
	if users := metadata.ValueFromIncomingContext(ctx, "x-user-id"); len(users) == 1 {
		return users[0], nil
	}
	return "", status.Error(codes.Unauthenticated, "x-user-id is missing")
}
