"""The worker over HTTP: OpenAI's speech API and what belongs to it, beside gRPC."""
