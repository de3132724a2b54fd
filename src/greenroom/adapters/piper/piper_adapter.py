"""The adapter of Piper voices: text to phonemes by Piper, phonemes to samples by a session."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from greenroom.adapter import LeftOut, ModelSpec, Preparation, TTSAdapter
from greenroom.adapters.options import Choice, Name, Number, Option, check
from greenroom.adapters.piper.cuda import check_gpu
from greenroom.adapters.piper.loudness import gain_of
from greenroom.adapters.piper.onnx_file import problem_with
from greenroom.adapters.piper.phoneme_runs import split_into_runs
from greenroom.adapters.piper.piper_preparation import PiperPreparation
from greenroom.adapters.piper.prepared.run.prepared_voice import OPENVINO, RUNTIMES, PreparedVoice
from greenroom.adapters.piper.session import (
    OWN_FILE,
    PREPARED,
    Samples,
    Session,
    open_own_file,
    open_prepared,
    open_session,
)
from greenroom.adapters.piper.session_swap import SwappableSession
from greenroom.adapters.piper.voice_json import feeds, length_of, read_settings, speakers_of
from greenroom.adapters.piper.word_clock import WordClock
from greenroom.adapters.voice_files import find_voices
from greenroom.audio.frames import AudioChunk
from greenroom.catalog.devices import CPU, parse
from greenroom.errors import ConfigError
from greenroom.speech.pace import mark_last
from greenroom.speech.sentence import WORD_TIMES
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import printable

logger = safe_logger(__name__)

_AS_IT_IS = {"noise_scale": 0.0, "noise_w_scale": 0.0, "gain": 1.0, "volume": 1.0}
"""Options by which a sentence is the same each time it is spoken, as loud as the voice has it."""

_OPTIONS: dict[str, Option] = {
    "speaker": Name(),
    "speed": Number(0.25, 4.0),
    "length_scale": Number(0.1, 10.0),
    "noise_scale": Number(0.0, 2.0),
    "noise_w_scale": Number(0.0, 2.0),
    "sentence_silence": Number(0.0, 10.0),
    "volume": Number(0.0, 4.0),
    "gain": Number(0.0, 16.0),
    "threads": Number(1, 256),
    "linger": Number(0.0, 86_400.0),
    "prepare": Number(0, 1),
    "runtime": Choice(RUNTIMES),
}


class PiperTTSAdapter(TTSAdapter):
    """One Piper voice: an `.onnx` file with its `.onnx.json` beside it.

    Options: `speaker` (name or number), `speed` (1.0, or `length_scale` as Piper has it),
    `noise_scale`, `noise_w_scale` (the voice's own), `sentence_silence` in seconds (0), `volume`
    (1.0). For the model also `gain` (else measured at warmup; one for the voice, as sentences are
    never normalised to their own peak), `threads` (of a run of the text: 1; without a
    prepared form of the whole: as many as there are cores), `linger` (0:
    seconds that the graph stays after its last voice), `prepare` (1; 0 uses the file as it is) and
    `runtime` (`onnxruntime`; `openvino` has the waveform of a prepared voice made in bfloat16).
    """

    concurrency: ClassVar[int | None] = None
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime", "piper")
    offline: ClassVar[bool] = True
    reads_phonemes: ClassVar[bool] = True
    preparation: ClassVar[Preparation | None] = PiperPreparation()

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        self.sample_rate = 0
        self._swappable: SwappableSession | None = None
        self._speech: Any = None
        self._gain = float(spec.options.get("gain", 1.0))

    @classmethod
    def discover(cls, directories: Sequence[Path]) -> Iterable[ModelSpec | LeftOut]:
        """Return every Piper voice in `directories`: packs, and files in Piper's own naming."""
        return find_voices(directories, family="piper", adapter="piper")

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `InvalidInputError` for an unknown option or one out of range."""
        check(options, _OPTIONS)

    @classmethod
    def check_spec(cls, spec: ModelSpec) -> None:
        """Raise `ConfigError` for a device that is not there, or files that are not a voice."""
        device = parse(spec.device)
        if device != CPU:
            check_gpu(device)
        if spec.options.get("runtime") == OPENVINO and not find_spec(OPENVINO):
            raise ConfigError(
                "`runtime: openvino` needs OpenVINO; run `pip install 'greenroom[openvino]'`."
            )
        if spec.path is None:
            raise ConfigError("a piper model needs `path`, the .onnx file of the voice.")
        model = Path(spec.path)
        try:
            read_settings(model)
            problem = problem_with(model)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{error}.") from None
        if problem is not None:
            raise ConfigError(f"{printable(model.name)} {problem}.")

    @classmethod
    def speakers(cls, spec: ModelSpec) -> Sequence[str]:
        """Return the names in the voice's JSON by their numbers, or numbers where it has no names.

        Raises `OSError` and `ValueError` for files that are not a voice.
        """
        return speakers_of(read_settings(Path(spec.path or "")))

    def load(self) -> None:
        """Take the prepared voice, or read its own file while there is none."""
        self.check_spec(self.spec)
        try:
            from piper import PiperVoice
            from piper.config import PiperConfig
        except ImportError as error:
            raise ConfigError(
                "the piper engine is not installed; run `pip install 'greenroom[piper]'`."
            ) from error
        model = Path(self.spec.path or "")
        settings = read_settings(model)
        rate = settings["audio"]["sample_rate"]
        session = open_session(model, self.spec.device, self.spec.options, rate)
        self._swappable = SwappableSession(session)
        self._speech = PiperVoice(session=None, config=PiperConfig.from_dict(settings))
        self.sample_rate = rate

    def warm_up(self, text: str) -> Iterator[AudioChunk]:
        """Yield the audio of `text`, and take from it the one gain of this voice.

        A prepared form that cannot say it is left for the voice's own file.
        """
        chunks = self._first_words(text)
        if "gain" not in self.spec.options and chunks:
            self._gain = gain_of(np.concatenate([chunk.samples for chunk in chunks]))
        yield from chunks

    def _first_words(self, text: str) -> list[AudioChunk]:
        options = {**self.spec.options, **_AS_IT_IS}
        try:
            return list(self.synthesize(text, options))
        except Exception as error:
            if self._swappable is None or self.form != PREPARED:
                raise
            logger.warning("%s: its prepared form cannot speak: %s", self.spec.model_id, error)
            self._swappable.replace(open_own_file(Path(self.spec.path or ""), self.spec.options))
            return list(self.synthesize(text, options))

    def synthesize(self, text: str, options: Mapping[str, Any]) -> Iterator[AudioChunk]:
        """Yield the audio of each sentence that Piper finds in `text`, in pieces.

        With the option `word_times` they have words, if the voice is prepared.
        """
        swappable, speech = self._swappable, self._speech
        assert swappable is not None
        gain = float(options.get("gain", self._gain)) * float(options.get("volume", 1.0))
        pause = round(float(options.get("sentence_silence", 0.0)) * self.sample_rate)
        with swappable.in_use() as session:
            sentences = [phonemes for phonemes in speech.phonemize(text) if phonemes]
            clock = None
            if options.get(WORD_TIMES) and session.knows_lengths:
                clock = _clock(text, sentences, speech)

            def chunk(samples: Samples) -> AudioChunk:
                words = None if clock is None else clock.next(samples)
                loud = samples if gain == 1.0 else samples * np.float32(gain)
                return AudioChunk(np.clip(loud, -1.0, 1.0), self.sample_rate, words)

            for number, phonemes in enumerate(sentences, 1):
                follows = bool(pause) or number < len(sentences)
                for samples in _spoken(session, speech, phonemes, options, clock, follows=follows):
                    yield chunk(samples)
                if pause:
                    mark_last(number == len(sentences))
                    yield chunk(np.zeros(pause, np.float32))

    def upgrade(self) -> bool:
        """Take the prepared form in the place of the own file, for all speech from now on."""
        swappable = self._swappable
        if swappable is None or self.form != OWN_FILE:
            return False
        model, device = Path(self.spec.path or ""), self.spec.device
        prepared = open_prepared(model, device, self.spec.options, self.sample_rate)
        if prepared is None:
            return False
        swappable.replace(prepared)
        return True

    @property
    def form(self) -> str:
        """Which form is in memory: `prepared` or `own file`."""
        if self._session is None:
            return ""
        return PREPARED if isinstance(self._session, PreparedVoice) else OWN_FILE

    @property
    def has_word_times(self) -> bool:
        """Whether the voice is prepared, and tells how long each phoneme is."""
        return self._session is not None and self._session.knows_lengths

    @property
    def _session(self) -> Session | None:
        return self._swappable.session if self._swappable is not None else None

    @property
    def looks_ahead(self) -> bool:
        """Whether cores would idle: a prepared voice's text stage leaves all but one alone."""
        return self._session is not None and self._session.looks_ahead

    def footprint_bytes(self) -> int | None:
        """Return what the voice takes while it says the longest piece of text.

        The prepared form was weighed; on its own file it follows from the file's size.
        """
        return self._session.footprint_bytes if self._session is not None else None

    def mapped_bytes(self) -> int | None:
        """Return the size of the prepared weights."""
        return self._session.mapped_bytes if self._session is not None else None

    def shared_memory(self) -> tuple[str, int] | None:
        """Return the graph that a prepared voice runs through, and what that takes."""
        return self._session.shared_memory if self._session is not None else None

    def unload(self) -> None:
        """Let go of weights and graph; what no other voice uses is free when this returns."""
        swappable, self._swappable, self._speech = self._swappable, None, None
        if swappable is not None:
            swappable.close()


def _spoken(
    session: Session,
    speech: Any,
    phonemes: list[str],
    options: Mapping[str, Any],
    clock: WordClock | None,
    *,
    follows: bool,
) -> Iterator[Samples]:
    """Yield the samples of one sentence; text that is too long for one run is said in several.

    `follows` says whether anything comes after the sentence.
    """
    ids = speech.phonemes_to_ids(phonemes)
    runs = list(split_into_runs(phonemes, len(ids), length_of(speech.config, options)))
    for number, run in enumerate(runs, 1):
        own_ids = ids if run is phonemes else speech.phonemes_to_ids(run)
        given = feeds(speech.config, own_ids, options)
        take_lengths = None if clock is None else clock.run(run)
        with contextlib.closing(session.speak(given, take_lengths)) as spoken:
            for samples in spoken:
                if follows or number < len(runs):
                    mark_last(False)
                yield samples


def _clock(text: str, sentences: list[list[str]], speech: Any) -> WordClock:
    return WordClock(text, sentences, speech.config, speech.phonemize, speech.phonemes_to_ids)
