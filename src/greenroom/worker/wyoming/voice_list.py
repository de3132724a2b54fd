"""The answer to `describe`: every voice that can be spoken with, and who speaks in it.

It is made in a thread, as files are looked at for it, at the start and at the first question after
the catalog has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from wyoming.info import Attribution, Info, TtsProgram, TtsVoice, TtsVoiceSpeaker

from greenroom.adapter import ModelSpec, TTSAdapter
from greenroom.catalog import registry
from greenroom.concurrency.tasks import Tasks
from greenroom.concurrency.threads import DaemonExecutor, ExecutorBusyError, OverdueError
from greenroom.config.schema import MAX_NAME_CHARS
from greenroom.errors import ConfigError
from greenroom.untrusted.exceptions import describe_error
from greenroom.untrusted.logs import safe_logger
from greenroom.worker.synthesis import Synthesis
from greenroom.worker.wyoming.event_frames import frame_of

logger = safe_logger(__name__)

_LIMIT_S = 60.0
"""How long the voices may take to be looked at: 10,000 take some seconds."""

_MOST_SPEAKERS = 10_000
"""Of one voice; the largest of Piper's has 904."""


@dataclass(frozen=True, slots=True)
class ListedVoices:
    """What the catalog had, at one moment, as the clients are told."""

    version: int = -1
    """Of the catalog."""
    event: bytes = b""
    """The `info` event, ready to be sent."""
    speakers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Who speaks in each model that has several, in the order of their numbers."""


class VoiceList:
    """Keeps the answer for as long as the catalog stays the same."""

    def __init__(self, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self._catalog = synthesis.manager.catalog
        self._listed = ListedVoices()
        self._thread = DaemonExecutor("voices of wyoming", 1)
        self._tasks = Tasks()
        self._making: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have the answer made, so that the first who asks need not wait for it."""
        self._make_again()

    async def listed(self) -> ListedVoices:
        """Return the answer, made anew if the catalog is another than the one it was made from.

        Raises `ConfigError` when the voices cannot be looked at in time.
        """
        if self._listed.version != self._catalog.version:
            await asyncio.wait([self._make_again()])  # it goes on for others when this one leaves
        if self._listed.version < 0:
            raise ConfigError(
                f"the voices could not be looked at within {_LIMIT_S:g} s; is a disk slow?"
            )
        return self._listed

    def _make_again(self) -> asyncio.Task[None]:
        if self._making is None or self._making.done():
            self._making = self._tasks.begin(self._make(), "wyoming voices")
        return self._making

    async def _make(self) -> None:
        try:
            self._listed = await self._thread.run(self._made, limit=_LIMIT_S)
        except (ExecutorBusyError, OverdueError):
            logger.error("the voices for Wyoming could not be looked at within %g s", _LIMIT_S)

    def _made(self) -> ListedVoices:
        version = self._catalog.version
        speakers: dict[str, tuple[str, ...]] = {}
        voices = []
        for spec in self._with_default_first():
            named = _speakers(spec)
            if named is None:
                continue
            if named:
                speakers[spec.model_id] = named
            voices.append(_voice(spec, named))
        program = TtsProgram(
            name="greenroom",
            description="Greenroom",
            attribution=Attribution(name="Greenroom", url=""),
            installed=True,
            version=self._synthesis.version,
            voices=voices,
            supports_synthesize_streaming=True,
        )
        return ListedVoices(version, frame_of(Info(tts=[program]).event()), speakers)

    def _with_default_first(self) -> Iterator[ModelSpec]:
        """Yield the default model, which many clients take, then the others in their order."""
        default = self._synthesis.voices.default_model_id
        specs = list(self._catalog)
        yield from (spec for spec in specs if spec.model_id == default)
        yield from (spec for spec in specs if spec.model_id != default)

    async def end(self, limit: float) -> None:
        """Leave a list that is being made; its thread ends by itself."""
        await self._tasks.end(limit)
        self._thread.close()


def _voice(spec: ModelSpec, speakers: Iterable[str]) -> TtsVoice:
    return TtsVoice(
        name=spec.model_id,
        description=None,
        attribution=Attribution(name="", url=""),
        installed=True,
        version=None,
        languages=list(spec.languages),
        speakers=[TtsVoiceSpeaker(name) for name in speakers] or None,
    )


def _speakers(spec: ModelSpec) -> tuple[str, ...] | None:
    """Return who speaks in a model that has several; `None` for one that cannot be loaded."""
    try:
        adapter = registry.resolve(spec.adapter)
        adapter.check_spec(spec)
        return _checked(adapter, spec)
    except ConfigError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - an adapter is anybody's code; it ends this model only
        problem = describe_error(error)
    logger.warning("model %s is not offered over Wyoming: %s", spec.model_id, problem)
    return None


def _checked(adapter: type[TTSAdapter], spec: ModelSpec) -> tuple[str, ...]:
    """Return the speakers that an engine names; none where not all of them can be told."""
    named = tuple(adapter.speakers(spec))[:_MOST_SPEAKERS]
    return named if all(map(_is_name, named)) else ()


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_NAME_CHARS
