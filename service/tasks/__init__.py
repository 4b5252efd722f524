"""Task operations: the six methods, validation, batching, etags and page tokens. No gRPC, no SQL."""
