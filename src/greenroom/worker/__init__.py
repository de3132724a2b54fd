"""The serving process: one manager behind gRPC."""
