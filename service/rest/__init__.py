"""The REST door: JSON over HTTP, transcoded to the calls of the gRPC service by the proto's annotations."""
