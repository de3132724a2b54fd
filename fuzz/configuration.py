"""The configuration's door: a file, the environment and flags, of which any may be wrong."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from fuzz.documents import SCALARS, TEXTS, hostile_yaml, spoiled
from fuzz.memory import growth
from fuzz.shorter import one_left_out, parts_left_out
from fuzz.watchdog import Watchdog
from greenroom import Catalog, ConfigError, ModelManager
from greenroom.cli.config_check import problems
from greenroom.cli.shared_options import overrides_of
from greenroom.config.schema import Config, load_config
from greenroom.worker.settings_check import worker_problems

SAMPLE = Path(__file__).parent.parent / "configs" / "worker.yaml"

_BASE = """\
model_manager:
  default_model_id: tone-440
  preload_model_ids: [tone-220]
  ttl_ms: 600000
  min_residency_ms: 120000
  resident_cap: 3
  cap_policy: soft
  memory_budget_mb: 500
voices:
  directories: []
  packages: []
models:
  - model_id: slow
    variant_of: tone-440
    options: {speed: 0.8}
    languages: [en-US]
    tags: [slow]
    footprint_mb: 10
    ttl_ms: -1
    aliases: [slow-one]
  - model_id: bare
    adapter: tone
    path: somewhere/voice.onnx
    device: cpu
worker:
  listen: 127.0.0.1:0
  http_listen: null
  api_keys:
    - key: abcdefgh
      name: kitchen
      role: admin
      max_sessions: 3
  aliases: {alloy: tone-220}
  max_streams: 4
  overload: refuse
  overload_wait_ms: 100
"""
_KEYS = tuple(
    dict.fromkeys(line.strip(" -").split(":")[0] for line in _BASE.splitlines() if ":" in line)
)
_SECTIONS = tuple(Config.model_fields)
_MOST_BYTES = 200 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """A whole configuration: what stands in the file, in the environment and on the line."""

    file: bytes
    environment: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()


class ConfigurationDoor:
    """Whatever is said, the answer is a configuration, or a `ConfigError` that says where."""

    name = "config"
    about = "a configuration file, the environment and --set"

    def open(self, watchdog: Watchdog) -> None:
        """Work in a folder of its own."""
        self._folder = tempfile.TemporaryDirectory(prefix="greenroom-fuzz-")
        self._file = Path(self._folder.name) / "worker.yaml"
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(contextlib.chdir(self._folder.name))

    def close(self) -> None:
        """Remove the folder."""
        self._stack.close()
        self._folder.cleanup()

    def draw(self, dice: random.Random) -> Said:
        """Return a configuration with something wrong in one place or several."""
        said = Said(_BASE.encode())
        where = dice.randrange(6)
        if where < 4:
            said = replace(said, file=hostile_yaml(dice, dice.choice((_BASE, _sample())), _KEYS))
        if where in (3, 4):
            said = replace(
                said, environment=tuple(_variable(dice) for _ in range(dice.choice((1, 2))))
            )
        if where in (3, 5):
            said = replace(said, flags=tuple(_flag(dice) for _ in range(dice.choice((1, 2)))))
        return said

    def simpler(self, given: Said) -> Iterator[Said]:
        """Yield it without the environment, the flags, and parts of the file."""
        if given.environment:
            yield replace(given, environment=())
        if given.flags:
            yield replace(given, flags=())
        for flags in one_left_out(given.flags):
            yield replace(given, flags=flags)
        lines = tuple(given.file.splitlines(keepends=True))
        for kept in one_left_out(lines) if len(lines) < 200 else ():
            yield replace(given, file=b"".join(kept))
        for file in parts_left_out(given.file):
            yield replace(given, file=file)

    def count(self, given: Said) -> int:
        """Return 1."""
        return 1

    def attempt(self, given: Said) -> list[str]:
        """Read it, and build all that is built of it, without starting anything."""
        self._file.write_bytes(given.file)
        faults: list[str] = []
        with _environment(given.environment):
            grown = growth(lambda: faults.extend(self._read(given)))
        if grown > _MOST_BYTES:
            faults.append("reading it took more than 200 MB")
        return faults

    def _read(self, given: Said) -> list[str]:
        try:
            config = load_config(self._file, overrides_of(given.flags))
            catalog = Catalog.from_config(config)
            told = [*worker_problems(config.worker, catalog), *problems(config, catalog)]
            if not told:
                ModelManager.from_settings(config.model_manager, catalog)
            return _unreadable(told)
        except ConfigError as error:
            return [*_unreadable(error.problems), *_placeless(error)]
        except typer.BadParameter:
            return []  # the command line's own word for a flag that is no KEY=VALUE
        except Exception as error:  # noqa: BLE001 - whatever else comes out is a fault
            return [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]


@functools.cache
def _sample() -> str:
    return SAMPLE.read_text(encoding="utf-8")


def _unreadable(told: list[str] | tuple[str, ...]) -> list[str]:
    """Return a fault for what cannot be printed on one line of a terminal."""
    return [
        f"a problem cannot be printed: {text[:200]!a}"
        for text in told
        if not text.strip() or len(text) > 5_000 or not text.isprintable()
    ]


def _placeless(error: ConfigError) -> list[str]:
    """Return a fault for a problem that does not say where it is."""
    places = (".yaml", "command line", "GREENROOM_", "models.", "the configuration", "--set")
    keys = (*_KEYS, *_SECTIONS)
    return [
        f"a problem does not say where it is: {text[:300]!a}"
        for text in error.problems
        if not any(place in text for place in (*places, *keys))
    ]


def _variable(dice: random.Random) -> tuple[str, str]:
    section = dice.choice((*_SECTIONS, "nothing", ""))
    name = f"GREENROOM_{section}__{dice.choice(_KEYS)}".upper()
    if dice.random() < 0.2:
        name = dice.choice(
            ("GREENROOM_", "GREENROOM___", "GREENROOM_MODELS", "GREENROOM_WORKER", f"{name}__X__Y")
        )
    return name, _value(dice).replace("\0", "").encode("utf-8", "ignore").decode()


def _flag(dice: random.Random) -> str:
    key = f"{dice.choice(_SECTIONS)}.{dice.choice(_KEYS)}"
    if dice.random() < 0.2:
        key = dice.choice(("", ".", "..", "x", "models", "worker", f"{key}.x.y", "a." * 2_000))
    return dice.choice(
        (f"{key}={_value(dice)}", f"{key}={_value(dice)}", key, "=", "==", f"={key}")
    )


def _value(dice: random.Random) -> str:
    if dice.random() < 0.1:
        return dice.choice(TEXTS)(dice)[:100_000]
    text = dice.choice(SCALARS)
    if dice.random() < 0.2:
        return spoiled(dice, text.encode()).decode(errors="surrogateescape")
    return text


@contextlib.contextmanager
def _environment(pairs: tuple[tuple[str, str], ...]) -> Iterator[None]:
    before = dict(os.environ)
    try:
        for name, value in pairs:
            os.environ[name] = value
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
