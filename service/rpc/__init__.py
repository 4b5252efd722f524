"""gRPC: the interceptor, the servicers, and the mapping between messages, errors and the model."""
