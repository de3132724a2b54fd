"""Text from standard input, as it comes."""

from __future__ import annotations

import codecs
import os
from collections.abc import AsyncIterator
from functools import partial

from greenroom.concurrency.threads import Lane
from greenroom.errors import InvalidInputError

_AT_MOST = 4096


async def pieces(descriptor: int) -> AsyncIterator[str]:
    """Yield what can be read from a file descriptor, whenever there is something, as text.

    Reads on a thread that keeps nobody waiting at exit, and without Python's buffers, which
    such a thread would leave locked. Raises `InvalidInputError` for what is not UTF-8.
    """
    lane = Lane("input", 1)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while content := await lane.submit(partial(os.read, descriptor, _AT_MOST)):
            yield decoder.decode(content)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise InvalidInputError("the text is not UTF-8; convert it with `iconv`.") from None
    except OSError as error:
        raise InvalidInputError(f"the text cannot be read: {error.strerror}.") from None
    finally:
        lane.close()
