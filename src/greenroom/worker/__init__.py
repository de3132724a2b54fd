"""The worker: a process that serves one manager over gRPC and HTTP."""
