"""The worker over gRPC: one module for each service, and what all calls go through."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one message either way, for worker and client: gRPC's own default for what is received."""
