"""A stage of a graph with the weights of one voice."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from greenroom.adapters.piper.prepared.manifest import StageManifest

Feeds = Mapping[str, NDArray[Any]]


@functools.cache
def shrinking() -> Any:
    """Return the options of a run after which the session keeps no memory it does not need."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class Stage(Protocol):
    """A stage with one voice's weights. Any number of threads may run it."""

    manifest: StageManifest

    @property
    def can_be_wide(self) -> bool:
        """Whether it can be run with two threads."""

    def run(
        self, feeds: Feeds, *, wide: bool = False, shrink: bool = False
    ) -> dict[str, NDArray[Any]]:
        """Run once, with two threads if `wide`; `feeds` may hold more than the stage reads.

        `shrink` empties the arenas.
        """


class BoundStage:
    """A stage in onnxruntime."""

    def __init__(
        self,
        manifest: StageManifest,
        session: Any,
        weights: Mapping[str, Any],
        *,
        wide: Any | None = None,
    ) -> None:
        """`wide` is the session of the same stage that computes with two threads, if there is one.

        Raises `ValueError` where weights and manifest are not what the graph wants.
        """
        self.manifest = manifest
        _check(manifest, session, weights)
        own = {name: weights[name] for name in manifest.weights}
        self._narrow = _Bound(session, own)
        self._wide = None if wide is None else _Bound(wide, own)

    @property
    def can_be_wide(self) -> bool:
        """Whether it can be run with two threads."""
        return self._wide is not None

    def run(
        self, feeds: Feeds, *, wide: bool = False, shrink: bool = False
    ) -> dict[str, NDArray[Any]]:
        """Run once, with two threads if `wide`; `feeds` may hold more than the stage reads.

        `shrink` empties the arenas.
        """
        if shrink and self._wide is not None:
            self._wide.run(self.manifest, feeds, shrink=True)
        bound = self._wide if wide and self._wide is not None else self._narrow
        return bound.run(self.manifest, feeds, shrink=shrink)


class _Bound:
    """A session with weights."""

    def __init__(self, session: Any, weights: Mapping[str, Any]) -> None:
        self._session, self._weights = session, weights
        # A binding has all weights of the stage bound, and is used again; few are kept, as each
        # takes memory for every input.
        self._idle: deque[Any] = deque(maxlen=4)

    def run(
        self, manifest: StageManifest, feeds: Feeds, *, shrink: bool
    ) -> dict[str, NDArray[Any]]:
        try:
            binding = self._idle.pop()
        except IndexError:
            binding = self._session.io_binding()
            for name, value in self._weights.items():
                binding.bind_ortvalue_input(name, value)
        for name in manifest.enter:
            binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        for name in manifest.leave:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding, shrinking() if shrink else None)
        made = dict(zip(manifest.leave, binding.copy_outputs_to_cpu(), strict=True))
        binding.clear_binding_outputs()
        self._idle.append(binding)
        return made


def _check(manifest: StageManifest, session: Any, weights: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless weights and manifest are what the graph wants.

    The runtime would find that out in the first run only, in the middle of a caller's sentence.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    missing = inputs.keys() - {*manifest.enter, *manifest.weights}
    unknown = {*manifest.enter, *manifest.weights} - inputs.keys()
    unmade = set(manifest.leave) - {value.name for value in session.get_outputs()}
    if names := missing | unknown | unmade:
        raise ValueError(f"its stage {manifest.name!r} has {min(names)!r} on one side only")
    for name in manifest.weights:
        weight = weights.get(name)
        if weight is None:
            raise ValueError(f"its stage {manifest.name!r} has no weights {name!r}")
        wanted, found = (
            (inputs[name].shape, inputs[name].type),
            (weight.shape(), weight.data_type()),
        )
        if wanted != found:
            raise ValueError(f"its weights {name!r} are {found} where {wanted} is wanted")
