"""TLS certificates of the gRPC server and the REST gateway: loading, verification and renewal."""
