"""Speech in the format that a caller asked for, as it is made: one way for every protocol."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Iterable
from itertools import chain

from greenroom.audio.encoding import Format, encoder_for
from greenroom.audio.frames import AudioFrame, WordTime
from greenroom.concurrency.threads import run_to_end
from greenroom.worker.speech import Speech


async def encoded(
    speech: Speech, made: Format
) -> AsyncGenerator[tuple[bytes, tuple[AudioFrame, ...]], None]:
    """Yield what can be sent, for as many frames at a time as are there; maybe nothing yet.

    With it come those frames; none with what the codec held back to the end.
    """
    # In a thread, a step runs to its end even when cancelled: `close` may not meet it there.
    make = functools.partial(encoder_for, made, speech.sample_rate)
    encoder = make() if made.is_raw else await run_to_end(make)
    try:
        async for frame in speech:
            frames = (frame, *speech.take_ready())
            pcm = b"".join([each.pcm for each in frames])
            if made.is_raw:
                yield encoder.feed(pcm), frames
            else:
                yield await run_to_end(functools.partial(encoder.feed, pcm)), frames
        yield encoder.finish() if made.is_raw else await run_to_end(encoder.finish), ()
    finally:
        encoder.close()


def words_in(frames: Iterable[AudioFrame]) -> list[WordTime] | None:
    """Return the words that begin in `frames`; `None` where they are known of none."""
    known = [frame.words for frame in frames if frame.words is not None]
    return list(chain.from_iterable(known)) if known else None
