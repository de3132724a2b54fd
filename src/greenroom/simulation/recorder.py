"""Turns a worker's events into a trace in a file, a line of JSON for each fact.

The first line says what the file is. Then, in the order in which they became known:

    model    a model in memory: its size, its device, whether it is pinned; again when that changes
    request  one request for speech, at its end: when it came, how long it waited for its model, how
             long it kept it, how it ended
    load     a load that ended well: when it began, how long it took, warmup included
    failed   a load that failed
    unload   when it began, and how long it took
    lost     how many events the worker dropped as they were not taken in time

and `end`. Times are seconds from the beginning of the recording, by the worker's clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

FORMAT = "greenroom trace"
VERSION = 1

Line = dict[str, Any]


class Recorder:
    """What is being recorded of one worker; `lines` of each of its events, one after another."""

    def __init__(self, began: float | None = None) -> None:
        self._began = time.time() if began is None else began
        self._loads: dict[str, float] = {}
        """When the loads under way began."""
        self._unloads: dict[str, float] = {}
        self._models: dict[str, Line] = {}

    def head(self, worker: str) -> Line:
        """Return the first line."""
        return {"kind": FORMAT, "version": VERSION, "worker": worker, "began": self._began}

    def end(self, now: float | None = None) -> Line:
        """Return the last line."""
        return {"kind": "end", "at": self._at(time.time() if now is None else now)}

    def lines(self, name: str, content: Mapping[str, Any]) -> Iterator[Line]:
        """Yield what one server-sent event of the worker adds to the trace."""
        match name:
            case "speech":
                yield self._request(content)
            case "journal":
                yield from self._entry(content)
            case "state":
                yield from self._state(content)
            case "lost":
                yield {"kind": "lost", "count": content["count"]}

    def _request(self, content: Mapping[str, Any]) -> Line:
        took, waited = content["took_s"], content["waited_s"]
        first = content["first_audio_s"]
        return {
            "kind": "request",
            "model": content["model"],
            "at": self._at(content["time"] - took),
            "waited_s": waited,
            "speech_s": round(took - waited, 6),
            "first_audio_s": first,
            "outcome": content["outcome"],
        }

    def _entry(self, content: Mapping[str, Any]) -> Iterator[Line]:
        model, at = content["model"], content["time"]
        match content["kind"]:
            case "loading":
                self._loads[model] = at
            case "ready" | "failed" as kind if model in self._loads:
                # Else its drain was taken back, or an unload has failed.
                yield self._span("load" if kind == "ready" else kind, model, self._loads, at)
            case "unloading":
                self._unloads[model] = at
            case "gone" if model in self._unloads:
                yield self._span("unload", model, self._unloads, at)

    def _span(self, kind: str, model: str, begins: dict[str, float], at: float) -> Line:
        began = begins.pop(model)
        return {
            "kind": kind,
            "model": model,
            "at": self._at(began),
            "took_s": round(at - began, 6),
        }

    def _state(self, content: Mapping[str, Any]) -> Iterator[Line]:
        """Yield the models that are ready, once, and again when their facts change."""
        at_first = not self._models
        for model in content["models"]:
            if model["state"] != "ready":
                continue
            facts = {key: model[key] for key in ("footprint", "device", "pinned")}
            if self._models.get(model["name"]) != facts:
                self._models[model["name"]] = facts
                yield {"kind": "model", "model": model["name"], **facts, "resident": at_first}

    def _at(self, wall: float) -> float:
        return round(wall - self._began, 6)
