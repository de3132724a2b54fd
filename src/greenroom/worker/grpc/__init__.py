"""The worker over gRPC: one module for each service, and what all calls go through."""
