"""What is said of Markdown, as language models write it, block by block as the text comes.

Read by markdown-it-py (CommonMark, and of GitHub's extensions tables and strikethrough): marks,
targets of links and HTML tags are left out; words, code, alternative texts and the numbers of items
are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

_LONGEST_BLOCK = 1_000
"""A longer block is read in parts, cut at a line or a sentence: to read so many characters of prose
takes 5 ms of a processor, and where it is made to take long, 40 ms."""

_PARAGRAPH_END = "\n\n"
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_BEGINS_BLOCK = re.compile(r"[ \t]*(?:[-*+][ \t]|\d{1,9}[.)][ \t]|#{1,6}[ \t]|`{3}|~{3})")
_SENTENCE_END = re.compile(r"[.!?…](?=\s)|[。！？]")
_TAG = re.compile(r"<!--.*?(?:-->|$)|<[^>]*>?", re.DOTALL)


class MarkdownReader:
    """Reads one text; a block is known when the next one begins, or a blank line ends it."""

    def __init__(self) -> None:
        # Indented code is off: items of nested lists come one by one, and are indented.
        self._parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("code")
        self._line = ""
        self._block: list[str] = []
        self._length = 0
        self._fence = ""
        """The marks that end the code that is open."""

    def add(self, piece: str) -> str:
        """Return what is said of the blocks that are whole with `piece`."""
        *lines, self._line = (self._line + piece).split("\n")
        said = "".join(said for line in lines for said in self._take_line(line))
        while len(self._line) > _LONGEST_BLOCK:
            cut = _last_break(self._line[:_LONGEST_BLOCK])
            line, self._line = self._line[:cut], self._line[cut:]
            said += "".join([*self._take_line(line), self._flush()])
        return said

    def finish(self) -> str:
        """Return what is said of what is left at the end of the text."""
        line, self._line = self._line, ""
        return "".join([*self._take_line(line), self._flush()])

    def _take_line(self, line: str) -> Iterator[str]:
        fence = _FENCE.match(line)
        if self._fence:
            if fence and fence[1].startswith(self._fence):
                self._fence = ""
        else:
            if _BEGINS_BLOCK.match(line):
                yield self._flush()
            if fence:
                self._fence = fence[1]
        self._block.append(line)
        self._length += len(line) + 1
        is_end = not line.strip() and not self._fence
        if is_end or self._length > _LONGEST_BLOCK:
            yield self._flush()

    def _flush(self) -> str:
        source = "\n".join(self._block)
        # The rest of code that is read in parts is code as well.
        self._block, self._length = [self._fence] if self._fence else [], 0
        return "".join(_said(self._parser.parse(source)))


def _last_break(line: str) -> int:
    """Return where to cut a long line: after its last sentence, else at its last space."""
    *_, last = (0, *(match.end() for match in _SENTENCE_END.finditer(line)))
    return last or max(0, line.rfind(" ", 1)) or len(line)


def _said(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield the words of a document's tokens, a blank line after each block."""
    cells = 0
    for token in tokens:
        match token.type:
            case "inline":
                yield "".join(_said_inline(token.children or ()))
            case "list_item_open" if token.info:
                yield f"{token.info}{token.markup} "
            case "fence":
                yield token.content.rstrip() + _PARAGRAPH_END
            case "html_block":
                yield _TAG.sub("", token.content).strip() + _PARAGRAPH_END
            case "tr_open":
                cells = 0
            case "td_open" | "th_open":
                yield ", " if cells else ""
                cells += 1
            case "paragraph_close" | "heading_close" | "tr_close":
                yield _PARAGRAPH_END


def _said_inline(tokens: Iterable[Token]) -> Iterator[str]:
    for token in tokens:
        match token.type:
            case "text" | "code_inline" | "image":
                yield token.content
            case "softbreak" | "hardbreak":
                yield "\n"
            case "html_inline" if token.content.lower().startswith("<br"):
                yield "\n"
