"""The generated Python of the proto package taskwell.v1."""
