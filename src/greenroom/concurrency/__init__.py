"""Threads, tasks, timers and child processes, each owned, limited and ended."""
