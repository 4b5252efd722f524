"""The REST gateway: JSON over HTTP, transcoded to calls of the gRPC service by the annotations in the proto."""
