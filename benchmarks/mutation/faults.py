"""The faults of a file, as mutmut makes them: one changed expression each."""

from __future__ import annotations

import ast
import difflib
import textwrap
from dataclasses import dataclass
from pathlib import Path

from mutmut.mutation.file_mutation import MutatedFile, mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name, orig_function_and_class_names_from_key


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of one function."""

    key: str
    """The name by which mutmut's code switches it on."""
    change: str
    """What a reader is shown: where, and the line before and after."""
    file: str
    first_line: int
    last_line: int
    """The statement that is changed, in mutmut's code: only tests that execute it can tell."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """A file with all its faults in it, each off until it is switched on."""

    code: str
    faults: tuple[Fault, ...]


def faulty(file: str, source: str) -> Faulty:
    """Make every fault that mutmut knows in `source`, which lies at `file`."""
    made = mutate_file_contents(file, source)
    lines = made.code.splitlines()
    faults = tuple(_fault(file, made, lines, name) for name in made.mutant_names)
    return Faulty(made.code, faults)


def _fault(file: str, made: MutatedFile, lines: list[str], name: str) -> Fault:
    function, owner = orig_function_and_class_names_from_key(name)
    original = name.rpartition("_")[0] + "_orig"
    was, becomes = (_function(made, lines, version) for version in (original, name))
    gone, come, at = [], [], []
    matched = difflib.SequenceMatcher(None, was, becomes, autojunk=False)
    for kind, first, last, first_new, last_new in matched.get_opcodes():
        if kind != "equal":
            gone += was[first:last]
            come += becomes[first_new:last_new]
            at += [first, max(first, last - 1)]
    place = f"{owner}.{function}" if owner else function
    change = f"{_plain(gone)} → {_plain(come)}"
    start = made.line_span_by_function_name[original].start
    first_line, last_line = _statement(was, min(at), max(at))
    return Fault(
        get_mutant_name(Path(file), name),
        f"{file.removeprefix('src/greenroom/')} {place}: {change}",
        file,
        start + first_line,
        start + last_line,
    )


def _function(made: MutatedFile, lines: list[str], version: str) -> list[str]:
    span = made.line_span_by_function_name[version]
    return [line.replace(version, "_") for line in lines[span.start - 1 : span.end]]


def _plain(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


def _statement(function: list[str], first: int, last: int) -> tuple[int, int]:
    """The smallest statement with these lines, or the head of it: lines from 0, in `function`."""
    tree = ast.parse(textwrap.dedent("\n".join(function)))
    smallest, span = tree.body[0], len(function)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            holds = node.lineno <= first + 1 and last + 1 <= node.end_lineno
            if holds and node.end_lineno - node.lineno < span:
                smallest, span = node, node.end_lineno - node.lineno
    body = getattr(smallest, "body", None)
    if smallest is tree.body[0] or smallest.end_lineno is None:
        return 0, len(function) - 1  # a default, which every call sees
    if body and last + 1 < body[0].lineno:
        return smallest.lineno - 1, body[0].lineno - 2
    return smallest.lineno - 1, smallest.end_lineno - 1
