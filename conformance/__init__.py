"""Clients that nobody here wrote, each run against a started worker by a module of its own."""
