"""Names of things that are others': told on one line, whatever they are.

Pure, and nothing here raises.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from greenroom.errors import InvalidInputError
from greenroom.untrusted.printable import one_line, type_name

LONGEST_NAME = 200
"""Characters of an owner's name that are shown."""


def owner_name(owner: object) -> str:
    """Return the name of an owner; `-` for one that gave none."""
    if owner is None:
        return "-"
    try:
        return one_line(str(owner), LONGEST_NAME)
    except BaseException:  # noqa: BLE001 - an owner is the caller's object, whose `str()` may raise
        return f"an owner of type {type_name(owner)}"


def summed(owners: Iterable[str], most: int = 3) -> str:
    """Return the names of owners in a few words: `session ×20, call of me ×3 and 2 more`.

    Those of one kind are counted together, the most numerous first, and beyond `most` kinds only
    counted.
    """
    kinds = by_kind(owners)
    shown = [kind_in_words(kind, same) for kind, same in kinds[:most]]
    rest = sum(len(same) for _, same in kinds[most:])
    few = ", ".join(shown)
    return f"{few} and {rest} more" if rest else few


def by_kind(owners: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return owners by their kind, the most numerous first; the places in each are kept."""
    kinds: dict[str, list[str]] = {}
    for owner in owners:
        kinds.setdefault(_kind_of(owner), []).append(owner)
    return sorted(kinds.items(), key=lambda each: -len(each[1]))


def kind_in_words(kind: str, owners: list[str]) -> str:
    """Return how owners of one kind are told: one by its name, several by their number."""
    return owners[0] if len(owners) == 1 else f"{kind} ×{len(owners)}"


def _kind_of(owner: str) -> str:
    """Return a name without what tells it from others of its kind.

    Sessions have ids, callers of a worker addresses after what they do and the name of their key
    (`http call of KEY at ADDRESS`), and programs number theirs.
    """
    if owner.startswith("session "):
        return "session"
    does, of, who = owner.partition(" of ")
    if of:
        key, at, _ = who.partition(" at ")
        return f"{does} of {key}" if at else does
    words, _, last = owner.rpartition(" ")
    return words if words and any(map(str.isdigit, last)) else owner


class Holder:
    """Who holds references, as the ledger keeps it: named once, and equal to no other.

    So nobody else can give back what it holds, not even under its name.
    """

    __slots__ = ("name",)

    def __init__(self, name: object) -> None:
        self.name = owner_name(name)

    def __str__(self) -> str:
        return self.name


class OwnerHolder(Holder):
    """The holder that stands for an owner: compared as owners are, but without surprises.

    Two holders of equal owners are equal; owners that cannot be compared are not.
    """

    __slots__ = ("_hash", "_owner")

    def __init__(self, owner: Hashable) -> None:
        """Raise `InvalidInputError` for an owner that is not hashable."""
        try:
            self._hash = hash(owner)
        except Exception as error:
            raise InvalidInputError(
                f"owner must be hashable, such as a string, not of type {type_name(owner)}."
            ) from error
        self._owner = owner
        super().__init__(owner)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OwnerHolder):
            return NotImplemented
        if self._owner is other._owner:
            return True
        try:
            return self._hash == other._hash and bool(self._owner == other._owner)
        except Exception:  # noqa: BLE001 - an owner is the caller's object, whose `==` may raise
            return False


def holder_of(owner: Hashable) -> str | Holder | None:
    """Return the holder that an owner is to the ledger; raises `InvalidInputError` if it is none.

    Strings stand for themselves, and no owner too: a hit asks for their type only, and not here.
    """
    if owner is None or type(owner) is str:
        return owner
    if isinstance(owner, Holder):
        return owner
    return str.__str__(owner) if isinstance(owner, str) else OwnerHolder(owner)
