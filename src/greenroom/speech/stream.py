"""One utterance on its way to one caller: the handle that is an iterator of frames of 20 ms.

Two objects, so that a dropped handle frees everything: `SpeechStream` is what the caller holds,
`Speaker` is what works. The speaker does not know the handle, so when the caller drops it, the
speaker stops at the next chunk.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Self

from greenroom.audio.frames import AudioFrame
from greenroom.speech import text as texts
from greenroom.speech.sentence import Synthesizer
from greenroom.speech.speaker import Speaker
from greenroom.speech.use import Host


class SpeechStream:
    """An asynchronous iterator of `AudioFrame`, for one caller.

    Pausing or stopping it touches no other stream. Both take effect at once for the consumer;
    synthesis itself ends at the next chunk. A stream that is dropped, closed or whose consumer is
    cancelled stops as well. Its model stays in memory until the last thread has left it.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        host: Host,
        text: texts.CheckedText,
        options: Mapping[str, Any],
        *,
        output_rate: int,
        begin_limit: float | None = None,
        word_times: bool = False,
    ) -> None:
        self._speaker = Speaker(
            synthesizer, host, text, options, output_rate, begin_limit, word_times=word_times
        )
        self._drop = weakref.finalize(self, self._speaker.stop_from_anywhere)
        self._drop.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AudioFrame:
        """Return the next frame.

        Raises `InvalidInputError` for a piece of text that cannot be spoken and `SynthesisError`
        when the engine fails; both end the stream.
        """
        return await self._speaker.next_frame()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def pause(self) -> None:
        """Hold back frames until `resume`; synthesis rests once two seconds are made ahead."""
        self._speaker.pause(True)

    def resume(self) -> None:
        """Go on after `pause`, with no frame lost."""
        self._speaker.pause(False)

    def stop(self) -> None:
        """End the stream now; frames not yet taken are dropped."""
        self._speaker.stop()

    def take_ready(self) -> list[AudioFrame]:
        """Return the frames that need not be waited for; none while it is paused."""
        return self._speaker.take_ready()

    @property
    def is_over(self) -> bool:
        """Whether the last frame was taken, and nothing failed: the next step is the end."""
        return self._speaker.is_over

    async def aclose(self) -> None:
        """Stop, and wait until no thread of this stream is inside the model."""
        self._speaker.stop()
        await self._speaker.wait_ended()

    @property
    def ahead_s(self) -> float | None:
        """Seconds of audio that a listener has left to hear, made and not taken included.

        `None` before the first audio is taken; never below 0.
        """
        return self._speaker.ahead_s

    @property
    def engine_s(self) -> float:
        """Seconds that its threads spent inside the engine, over the sentences that are done."""
        return self._speaker.engine_s

    @property
    def gaps(self) -> int:
        """Silences of more than 20 ms in the midst of speech, for one who plays at real time."""
        return self._speaker.clock.gaps

    @property
    def late_s(self) -> float:
        """Seconds of silence in the midst of speech, for one who plays at real time."""
        return self._speaker.clock.late_s

    def __repr__(self) -> str:
        return f"<SpeechStream {self._speaker.phase}>"
