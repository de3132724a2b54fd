"""Names of things that are others': told on one line, whatever they are.

Pure, and nothing here raises.
"""

from __future__ import annotations

from collections.abc import Hashable

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
