"""A module whose import does not end, and holds the interpreter's lock."""

from __future__ import annotations

import ctypes

ctypes.PyDLL(None).sleep(60)
