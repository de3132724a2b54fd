"""From the frames of a sentence to its samples, piece by piece."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenroom.prepared.crew import CREW
from greenroom.prepared.pieces import Window, windows
from greenroom.prepared.recipe import StageRecipe

Samples = NDArray[np.float32]
Feeds = Mapping[str, NDArray[Any]]

_FLOW_FRAMES = 512
"""Frames that the flow makes at once after the first piece."""


@functools.cache
def _shrinking() -> Any:
    """Return the options of a run after which the session keeps no memory it does not need."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class BoundStage:
    """A stage with one voice's weights."""

    def __init__(self, recipe: StageRecipe, session: Any, weights: Mapping[str, Any]) -> None:
        self.recipe = recipe
        self._session = session
        self._weights = {name: weights[name] for name in recipe.weights}
        self._idle: deque[Any] = deque(maxlen=4)

    def run(self, feeds: Feeds, *, shrink: bool = False) -> dict[str, NDArray[Any]]:
        """Run once; `feeds` may hold more than the stage reads. `shrink` empties the arena."""
        try:
            binding = self._idle.pop()
        except IndexError:
            binding = self._session.io_binding()
            for name, value in self._weights.items():
                binding.bind_ortvalue_input(name, value)
        for name in self.recipe.enter:
            binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        for name in self.recipe.leave:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding, _shrinking() if shrink else None)
        made = dict(zip(self.recipe.leave, binding.copy_outputs_to_cpu(), strict=True))
        binding.clear_binding_outputs()
        self._idle.append(binding)
        return made


class Decoding:
    """One sentence on its way from frames to samples."""

    def __init__(
        self, decoder: BoundStage, flow: BoundStage | None, edges: Feeds, *, shrink: bool = False
    ) -> None:
        """`edges` is what the text stage made, and what it was fed with."""
        self._decoder, self._flow, self._edges, self._shrink = decoder, flow, edges, shrink
        self._making = threading.Lock()
        timed = (flow or decoder).recipe.timed
        self._frames = edges[timed[0]].shape[-1]
        if flow is None:
            self._latent = edges[decoder.recipe.timed[0]]
            self._done = self._frames
        else:
            self._latent = np.empty((1, 0, 0), np.float32)
            self._done = 0

    def pieces(self) -> Iterator[Samples]:
        """Yield the pieces in order; several are worked on at once while cores are idle."""
        reach = self._decoder.recipe
        todo = windows(self._frames, reach.left, reach.right)
        ahead: deque[Future[Samples]] = deque()

        def run_ahead(most: int) -> None:
            while len(ahead) < most and (window := next(todo, None)):
                ahead.append(CREW.submit(self._decode, window))

        with CREW.speaking() as share:
            try:
                first = next(todo, None)
                if first is None:
                    return
                self._make_frames(first.last, at_once=0)
                run_ahead(share() - 1)
                yield self._decode(first)
                while True:
                    run_ahead(share() if share() > 1 else 0)
                    if ahead:
                        samples = ahead.popleft().result()
                        run_ahead(share())
                        yield samples
                    elif window := next(todo, None):
                        yield self._decode(window)
                    else:
                        return
            finally:
                _give_up(ahead)

    def _decode(self, window: Window) -> Samples:
        self._make_frames(window.last, at_once=_FLOW_FRAMES)
        decoder = self._decoder.recipe
        part = {decoder.timed[0]: self._latent[..., window.first : window.last]}
        made = self._decoder.run({**self._edges, **part}, shrink=self._shrink)
        samples = made[decoder.leave[0]].reshape(-1)
        begin, end = window.start - window.first, window.end - window.first
        return samples[begin * decoder.rate : end * decoder.rate]

    def _make_frames(self, wanted: int, *, at_once: int) -> None:
        """Have the flow make the frames up to `wanted` that are missing, at least `at_once`."""
        flow = self._flow
        with self._making:
            if flow is None or self._done >= wanted:
                return
            recipe = flow.recipe
            end = min(self._frames, max(wanted, self._done + at_once))
            first = max(0, self._done - recipe.left)
            last = min(self._frames, end + recipe.right)
            part = {name: self._edges[name][..., first:last] for name in recipe.timed}
            made = flow.run({**self._edges, **part}, shrink=self._shrink)[recipe.leave[0]]
            if not self._done:
                self._latent = np.empty((*made.shape[:-1], self._frames), np.float32)
            self._latent[..., self._done : end] = made[..., self._done - first : end - first]
            self._done = end


def _give_up(ahead: deque[Future[Samples]]) -> None:
    """Return when no thread works on what nobody will hear."""
    for future in ahead:
        future.cancel()
    for future in ahead:
        if not future.cancelled():
            future.exception()
