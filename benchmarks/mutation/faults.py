"""The faults of a file, as mutmut makes them: one changed expression each."""

from __future__ import annotations

import difflib
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


@dataclass(frozen=True, slots=True)
class Faulty:
    """A file with all its faults in it, each off until it is switched on."""

    code: str
    faults: tuple[Fault, ...]


def faulty(file: str, source: str) -> Faulty:
    """Make every fault that mutmut knows in `source`, which lies at `file`."""
    made = mutate_file_contents(file, source)
    faults = tuple(
        Fault(get_mutant_name(Path(file), name), _change(file, made, name))
        for name in made.mutant_names
    )
    return Faulty(made.code, faults)


def _change(file: str, made: MutatedFile, name: str) -> str:
    function, owner = orig_function_and_class_names_from_key(name)
    original = name.rpartition("_")[0] + "_orig"
    was, becomes = (_lines(made, version) for version in (original, name))
    gone, come = [], []
    for line in difflib.ndiff(was, becomes):
        if line.startswith("- "):
            gone.append(line[2:].strip())
        elif line.startswith("+ "):
            come.append(line[2:].strip())
    place = f"{owner}.{function}" if owner else function
    return f"{file.removeprefix('src/greenroom/')} {place}: {' '.join(gone)} → {' '.join(come)}"


def _lines(made: MutatedFile, version: str) -> list[str]:
    span = made.line_span_by_function_name[version]
    lines = made.code.splitlines()[span.start - 1 : span.end]
    return [line.replace(version, "") for line in lines]
