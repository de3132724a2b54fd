"""Prepared voices: kept on disk in the form that loads fastest, and found again by content.

`store` keeps them, `run` speaks with them, `build` makes them; each knows those before it only.
"""

import os

# Set before the first import of onnxruntime, which reports its use to its vendor from then on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
