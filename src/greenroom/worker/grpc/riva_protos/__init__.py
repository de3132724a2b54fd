"""The messages of `nvidia.riva.tts`, generated from `proto/` by `make protos`."""
