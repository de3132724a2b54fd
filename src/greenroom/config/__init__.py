"""Configuration: what may be set, where it is set, and what is said of what is wrong."""
