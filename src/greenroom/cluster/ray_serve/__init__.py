"""Greenroom on Ray Serve: replicas of the worker, a router on `rank`, and a way in.

Needs the extra `ray`; nothing else here imports Ray.
"""
