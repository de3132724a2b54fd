"""Where sentences end: borders in a text that comes in pieces, found without changing the text.

A border is decided as soon as what follows can no longer change it, so the same text has the same
borders however it is cut, and the first sentence is there when the next one begins.

The rules are those of sentence boundaries in Unicode Standard Annex 29 (section 5, rules SB6 to
SB11: a full stop before a small letter or inside a number ends nothing, closing quotes belong to
their sentence), narrowed where they break too early: "!" and "?" before a small letter and, in
Latin text, without a space after them (links, code) end nothing either. Abbreviations are of the
kind that CLDR suppresses breaks after (`segments/*.xml`), as far as something follows them. The
number of a list item ("2. Mix") stays with its item, and an item begins a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

LONGEST_SENTENCE = 800
"""Text without a sentence border is cut at a space at this many characters, so that neither
memory nor the time to find a border grows with what a caller sends."""

_WIDE = "。！？｡"  # end a sentence whatever follows
_SPACELESS = "۔।॥።។။"  # end one before a letter, though no space is between
_STRONG = "!?؟։‼⁇⁈⁉" + _SPACELESS  # are no part of numbers
_CLOSERS = re.escape("'\"’”»›)]}*_`~」』》】〕〉）")
_OPENERS = frozenset("'\"‘“„‚«‹([{¿¡*_`~#>-–—「『《【〔〈（")

_CANDIDATE = re.compile(
    rf"[{_WIDE}][{_WIDE}{_STRONG}.…]*[{_CLOSERS}]*|[.…{_STRONG}]+[{_CLOSERS}]*|\n"
)
_ENDING = re.compile(rf"[{_WIDE}{_STRONG}.…][{_CLOSERS}]*\Z")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_ITEM = re.compile(r"(?:[-*•‣–]|\d{1,3}[.)])(?=\s)")
_PERHAPS_ITEM = re.compile(r"(?:[-*•‣–]|\d{1,3}[.)]?)?")
_NUMBERED = re.compile(r"\d+[.)]{1,2}(?=\s)")
_PERHAPS_NUMBERED = re.compile(r"\d+[.)]{0,2}")
_ITEM_NUMBER = re.compile(r"[\s>*#_(-]*(?:\d{1,3}|[a-z]|[ivx]{1,4})", re.IGNORECASE)


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_BEFORE_NAMES = _words(
    """Mr Mrs Ms Mx Dr Drs Prof St Ste Mt Ft Sr Jr Rev Hon Gov Sen Rep Pres Gen Maj Col Cmdr Adm
    Capt Lt Sgt Cpl Supt Messrs Mme Mlle Mgr Sra Srta Dra Don Hr Frl Ing Dipl Mag Dott Sig Avv Inc
    Ltd Corp Co Bros Univ Dept"""
)
"""Abbreviations with a capital that a name follows (or precedes, for those of companies)."""

_BEFORE_ANYTHING = _words(
    """al approx bzw ca cf ebd ed eds eq eqs etw evtl fig figs ggf incl inkl rd resp sog tel usf vgl
    viz vol vols vs z zzgl ул им рис см стр"""
)
"""Abbreviations that do not end a sentence, in either case."""

_BEFORE_NUMBERS = _words(
    """abb abs art bd bl ch chap jan feb mar apr jun jul aug sep sept oct nov dec kap n no nos nr
    núm p par pag pp s sec seq str tab"""
)
"""Those that are words of their own unless a number follows."""

_BEFORE_ORDINALS = _words("am beim dem den der des die vom zum")
"""German words after which "3." is an ordinal: "am 3. Oktober"."""

_HOURS = frozenset({"a.m", "p.m"})

_UNDECIDED: Final = -1
"""What follows may still change whether a border is here."""
_NONE: Final = -2


def is_blank(text: str) -> bool:
    """Return whether there is nothing but spaces and invisible marks, such as U+200B."""
    return all(char.isspace() or unicodedata.category(char) == "Cf" for char in text)


def ends_with_mark(text: str) -> bool:
    """Return whether `text` ends as sentences do: with a mark, and quotes or brackets after it."""
    return _ENDING.search(text.rstrip()[-20:]) is not None


class SentenceBorders:
    """Cuts one text into sentences, as its pieces come.

    The sentences are the text itself: one after the other, they differ from it only by the
    whitespace at their borders, and by invisible marks where nothing else is between two. None is
    longer than `LONGEST_SENTENCE`, nor is what is held back.
    """

    def __init__(self) -> None:
        self._held = ""
        self._decided = 0
        """Up to where it is known that no border is in what is held."""

    def add(self, piece: str) -> list[str]:
        """Return the sentences that are whole with `piece`."""
        self._held += piece
        sentences = []
        while (cut := self._next_cut()) is not None:
            sentence, self._held = self._held[:cut].strip(), self._held[cut:]
            self._decided = 0
            if not is_blank(sentence):
                sentences.append(sentence)
        return sentences

    def finish(self) -> list[str]:
        """Return what is left at the end of the text, unless it is blank."""
        rest, self._held, self._decided = self._held.strip(), "", 0
        return [] if is_blank(rest) else [rest]

    def _next_cut(self) -> int | None:
        if not self._decided:
            self._held = self._held.lstrip()
        # Only this much is looked at, so that a cut depends on the text alone, not on its pieces.
        window = self._held[:LONGEST_SENTENCE]
        for candidate in _CANDIDATE.finditer(window, self._decided):
            border = _border(window, candidate)
            if border >= 0:
                return border
            if border == _UNDECIDED:
                self._decided = candidate.start()
                break
        else:
            self._decided = len(window)
        if len(self._held) <= LONGEST_SENTENCE:
            return None
        space = max(map(window.rstrip().rfind, " \n\t"))
        return space if space > 0 else len(window)


def _border(text: str, candidate: re.Match[str]) -> int:
    """Return where a sentence ends at `candidate`, `_NONE` or `_UNDECIDED`."""
    start, end = candidate.span()
    if text[start] == "\n":
        return _border_at_line_end(text, start)
    if end == len(text):
        return _UNDECIDED
    if text[start] in _WIDE:
        return end
    marks = candidate[0]
    following = text[end]
    if not following.isspace():
        spaceless = marks[-1] in _SPACELESS and following.isalpha()
        return end if spaceless or (marks[-1] == "…" and _is_caseless(following)) else _NONE
    return _border_before_space(text, start, end)


def _border_at_line_end(text: str, at: int) -> int:
    """Decide at a line feed: a blank line or an item of a list follows, or the line goes on."""
    if is_blank(text[:at]):
        return _NONE
    following = _after_spaces(text, at + 1)
    if following < len(text) and text[following] == "\n":
        return at
    return _if_matched(_ITEM, _PERHAPS_ITEM, text, following, at)


def _border_before_space(text: str, start: int, end: int) -> int:
    """Decide at marks from `start` to `end` that whitespace follows: what begins after it?"""
    at = end
    while at < len(text) and text[at].isspace():
        at += 1
    if _BLANK_LINE.search(text, end, at):
        return end
    if "\n" in text[end:at]:
        item = _if_matched(_ITEM, _PERHAPS_ITEM, text, at, end)
        if item != _NONE and not (item >= 0 and _is_abbreviated(text, start, end, number=True)):
            return item
    while at < len(text) and _may_lead(text[at]):
        at += 1
    if at == len(text):
        return _UNDECIDED
    if text[at].isalpha():
        ends = not text[at].islower() and not _is_abbreviated(text, start, end, number=False)
        return end if ends else _NONE
    if not text[at].isdecimal():
        return _NONE
    if any(mark in _STRONG for mark in text[start:end]):
        return end
    if _is_abbreviated(text, start, end, number=True):
        return _NONE
    return _if_matched(_NUMBERED, _PERHAPS_NUMBERED, text, at, end)


def _if_matched(
    whole: re.Pattern[str], perhaps: re.Pattern[str], text: str, at: int, border: int
) -> int:
    """Return `border` if `whole` is at `at`, or `_UNDECIDED` if it may be with more text."""
    if whole.match(text, at):
        return border
    begun = perhaps.match(text, at)
    return _UNDECIDED if begun and begun.end() == len(text) else _NONE


def _after_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at] != "\n" and text[at].isspace():
        at += 1
    return at


def _may_lead(char: str) -> bool:
    """Return whether it may stand before a sentence's first letter, as a quote or an emoji may."""
    return (
        char in _OPENERS
        or char.isspace()
        or unicodedata.category(char) in ("So", "Sk", "Cf", "Mn", "Me")
    )


def _is_caseless(char: str) -> bool:
    return char.isalpha() and not char.islower() and not char.isupper()


def _is_abbreviated(text: str, start: int, end: int, *, number: bool) -> bool:
    """Return whether the full stop from `start` to `end` belongs to an abbreviation or an item.

    `number`: whether a number follows.
    """
    if text[start:end] != ".":
        return False
    first = _start_of(str.isalpha, text, start)
    word = text[first:start]
    if _is_ordinal(text, start) or _ITEM_NUMBER.fullmatch(
        text, text.rfind("\n", 0, start) + 1, start
    ):
        return True
    if len(word) == 1 and word.isupper():
        return True
    if len(word) == 1 and first >= 2 and text[first - 1] == ".":
        return text[first - 2 : start].lower() not in _HOURS
    small = word.lower()
    return (
        word in _BEFORE_NAMES or small in _BEFORE_ANYTHING or (number and small in _BEFORE_NUMBERS)
    )


def _is_ordinal(text: str, end: int) -> bool:
    """Return whether one or two digits end at `end`, after a word that German ordinals follow."""
    first = _start_of(str.isdecimal, text, end)
    if not 1 <= end - first <= 2 or not text[:first].endswith(" "):
        return False
    return text[_start_of(str.isalpha, text, first - 1) : first - 1].lower() in _BEFORE_ORDINALS


def _start_of(kind: Callable[[str], bool], text: str, end: int) -> int:
    """Return where the characters of a kind begin that end at `end`."""
    while end and kind(text[end - 1]):
        end -= 1
    return end
