"""Prepared voices: kept on disk in the form that loads fastest, and found again by content.

`store` keeps them, `run` speaks with them, `build` makes them; each knows those before it only.
"""
