"""Voices on a server: an index at an address, and the files relative to it.

The proxies and certificates of the environment (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`) are
used, as httpx does.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import Self
from urllib.parse import quote

import httpx

from greenroom.errors import PullError
from greenroom.untrusted.printable import printable
from greenroom.voices.voice_index import MAX_INDEX_BYTES, IndexedFile, VoiceIndex, parsed
from greenroom.voices.voice_source import INDEX_NAME, Content, CutError

_CONNECT_S, _SILENCE_S = 10.0, 20.0
"""How long a server may take to be reached, and then be silent."""

_INDEX_S = 60.0
"""How long the whole index may take, at the least speed that is of any use."""

_REDIRECTS = 5
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,19})-\d{1,19}/(?P<size>\d{1,19}|\*)")


class HttpSource:
    """A source at an address; one that does not end in `.json` is the folder of the index."""

    def __init__(self, url: str, *, silence_s: float = _SILENCE_S) -> None:
        """Raises `PullError` for what is no address of HTTP."""
        try:
            self._index_url = _index_url(httpx.URL(url))
        except httpx.InvalidURL as error:
            raise PullError("", f"{printable(url)} is no address: {printable(error)}") from None
        self.name = printable(self._index_url.copy_with(userinfo=b""))
        self._client = httpx.Client(
            verify=_certificates(),
            timeout=httpx.Timeout(silence_s, connect=_CONNECT_S),
            follow_redirects=True,
            max_redirects=_REDIRECTS,
            event_hooks={"request": [self._stay_encrypted]},
            headers={
                "User-Agent": f"greenroom/{version('greenroom')}",
                # Sizes and ranges are those of the files themselves, and nothing is unpacked.
                "Accept-Encoding": "identity",
            },
        )

    def index(self) -> VoiceIndex:
        """Return the voices that there are; raises `CutError` or `PullError`."""
        return parsed(self._index_content(), self.name)

    def _index_content(self) -> bytes:
        content = bytearray()
        end = time.monotonic() + _INDEX_S
        with self._response(self._index_url, {}) as response:
            for chunk in _chunks(response):
                content += chunk
                if len(content) > MAX_INDEX_BYTES:
                    raise PullError(
                        "",
                        f"{self.name} is no index of voices: it is larger than "
                        f"{MAX_INDEX_BYTES // 1024**2} MiB",
                    )
                if time.monotonic() > end:
                    raise CutError(f"{self.name} took longer than {_INDEX_S:.0f} s")
        return bytes(content)

    @contextlib.contextmanager
    def open(
        self, file: IndexedFile, offset: int = 0, validator: str | None = None
    ) -> Iterator[Content]:
        """Give the content from `offset` on if the server can and it is the same file, else all.

        Without a `validator` the rest is asked for all the same: the checksum tells.
        """
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator is not None:
                headers["If-Range"] = validator
        url = self._index_url.join(quote(file.path))
        with self._response(url, headers) as response:
            first, size = _extent(response)
            if size is not None and size != file.size:
                raise PullError(
                    "",
                    f"{printable(file.path)} has {size:,} bytes at the source and {file.size:,} in "
                    "the index",
                )
            if first not in (0, offset):
                raise CutError(f"the source sent {printable(file.path)} from another place on")
            yield Content(_chunks(response), first, _validator(response))

    @contextlib.contextmanager
    def _response(self, url: httpx.URL, headers: dict[str, str]) -> Iterator[httpx.Response]:
        shown = printable(url.copy_with(userinfo=b""))
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                _check(response, shown)
                yield response
        except httpx.TooManyRedirects:
            raise PullError("", f"{shown} is redirected more than {_REDIRECTS} times") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise PullError("", f"{shown} leads nowhere: {printable(error)}") from None
        except httpx.TimeoutException as error:
            raise CutError(f"{shown}: {type(error).__name__}, it is silent") from None
        except httpx.RequestError as error:
            raise CutError(f"{shown}: {printable(error) or type(error).__name__}") from None

    def _stay_encrypted(self, request: httpx.Request) -> None:
        """Refuse a redirect from an encrypted address to one that anybody on the way can forge."""
        if self._index_url.scheme == "https" and request.url.scheme != "https":
            raise PullError(
                "", f"{self.name} leads to {printable(request.url.host)} without encryption"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()


@cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are verified with; made once, as it takes tens of milliseconds."""
    return httpx.create_ssl_context()


def _index_url(url: httpx.URL) -> httpx.URL:
    if url.scheme not in ("http", "https") or not url.host:
        raise PullError("", f"{printable(url)} is no address of a source: https://HOST/PATH")
    if url.path.endswith(".json"):
        return url
    return url.copy_with(path=f"{url.path.rstrip('/')}/{INDEX_NAME}")


def _check(response: httpx.Response, shown: str) -> None:
    """Raise `PullError` or `CutError` for an answer that is not the file."""
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise CutError(f"{shown} answers {status}", _retry_after(response))
    if status == 416:  # what was kept is longer than the file
        raise PullError("", f"{shown} is shorter than the index says")
    if status not in (200, 206):
        raise PullError("", f"{shown} answers {status} {printable(response.reason_phrase, 60)}")
    coding = response.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise PullError("", f"{shown} comes packed ({printable(coding, 40)}), though not asked to")


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """Return where in the file an answer begins, and how large the server says the file is."""
    if response.status_code == 206:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            raise CutError("the source sent a part without saying which")
        return int(found["first"]), None if found["size"] == "*" else int(found["size"])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() and len(length) < 20 else None


def _validator(response: httpx.Response) -> str | None:
    """Return the entity tag, if it is a strong one: others do not tell bytes apart (RFC 9110)."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') and tag.isascii() and len(tag) <= 300 else None


def _retry_after(response: httpx.Response) -> float | None:
    seconds = response.headers.get("Retry-After", "")
    return float(seconds) if seconds.isdecimal() and len(seconds) < 9 else None


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    """Yield what comes, as it comes: chunks of a fixed size would lose the last one at a cut.

    The errors of httpx become ours in `HttpSource._response`."""
    return response.iter_raw()
