"""`python -m fuzz [door…]`: try the doors, tell each fault, and fail when there is one."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz.door import Door, Fault, Outcome, explore
from fuzz.doors import DOORS


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the named doors, or all; return 1 when a rule was broken."""
    chosen = _parser().parse_args(arguments)
    logging.getLogger("greenroom").addHandler(logging.NullHandler())
    logging.lastResort = None
    names = chosen.doors or list(DOORS)
    outcomes = []
    for name in names:
        door: Door = DOORS[name]()
        share = chosen.seconds / len(names)
        keep = _keeper(name, chosen.out)
        outcome = explore(door, seconds=share, seed=chosen.seed, tell=keep)
        print(outcome, flush=True)
        outcomes.append(outcome)
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:8} {door.about}" for name, door in DOORS.items())
    parser = argparse.ArgumentParser(
        prog="python -m fuzz",
        description=f"Send hostile input through every door of Greenroom.\n\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("doors", nargs="*", metavar="door", type=_door, help="none: all of them")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all together (60)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (1)")
    parser.add_argument("--out", type=Path, help="a folder for the input of each fault")
    return parser


def _door(name: str) -> str:
    if name not in DOORS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of: {', '.join(DOORS)}")
    return name


def _keeper(door: str, out: Path | None) -> Callable[[Fault], None]:
    """Return what tells a fault, and writes it into the folder if there is one."""
    number = 0

    def keep(fault: Fault) -> None:
        nonlocal number
        number += 1
        print(
            f"{door}: {fault.kind}\n    seed {fault.seed}: {fault.shortest!r}"[:2_000], flush=True
        )
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            content = {
                "door": door,
                "kind": fault.kind,
                "broken": fault.sentences,
                "seed": fault.seed,
                "input": repr(fault.shortest),
            }
            text = json.dumps(content, indent=2)
            (out / f"{door}-{number}.json").write_text(text, encoding="utf-8")

    return keep


__all__ = ["Outcome", "main"]

if __name__ == "__main__":
    sys.exit(main())
