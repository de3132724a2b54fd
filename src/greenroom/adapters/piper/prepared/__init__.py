"""Prepared voices: kept on disk in the form that loads fastest, and found again by content.

`store` keeps them, `run` speaks with them, `build` makes them; each knows those before it only.
"""

import os

# onnxruntime reports home from the moment it is imported; what is spoken here is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
