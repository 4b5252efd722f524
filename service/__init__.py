"""Taskwell: tasks per user, over gRPC. `app.py` is where the parts are put together."""
