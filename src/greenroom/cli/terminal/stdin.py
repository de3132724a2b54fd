"""Read text from standard input as it arrives."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator
from functools import partial

from greenroom.concurrency.threads import DaemonExecutor
from greenroom.errors import InvalidInputError

_PIECE_BYTES = 4096


async def pieces(descriptor: int) -> AsyncIterator[str]:
    """Yield text from a file descriptor as it arrives.

    Reads in a thread that may still block in `read` at exit: the process does not wait for it. And
    without Python's buffers, whose lock that thread would hold. Raises `InvalidInputError` for text
    that is not UTF-8.
    """
    executor = DaemonExecutor("input", 1)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while content := await executor.submit(partial(os.read, descriptor, _PIECE_BYTES)):
            yield decoder.decode(content)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidInputError("the text is not UTF-8; convert it with `iconv`.") from None
    except OSError as error:
        raise InvalidInputError(f"the text cannot be read: {error.strerror}.") from None
    finally:
        executor.close()
