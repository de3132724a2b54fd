"""The generated messages and stubs of `proto/greenroom/v1/tts.proto`, for workers and clients."""
