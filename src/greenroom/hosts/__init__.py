"""Engines in processes of their own: what crashes, hangs or leaks there takes nothing else with it.

The manager knows nothing of it: `hosted_adapter` is an adapter whose model lives elsewhere. Which
models share a process is decided in `processes`; a process is started by `fork_server`, watched by
`engine_process`, and runs `engine_main`.
"""
