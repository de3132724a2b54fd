"""Configuration: its keys and their limits, where values come from, and messages about errors."""
