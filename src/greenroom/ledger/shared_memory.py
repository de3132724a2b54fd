"""Memory that several models have in common, such as one graph of many voices.

Part of the ledger, as pure as it. Such memory is there from the first model that has it to the
last. So that each byte is booked once, and to a model, it is part of the footprint of one of them,
the *carrier*; when that is about to leave, another carries it on. Where any model that has it
stays, the carrier is one that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from greenroom.ledger.state import Resident, SharedPart


@dataclass(slots=True, eq=False)
class Sharers:
    """The models that have one part in common, and which of them carries it."""

    part: SharedPart
    device: str
    carrier: Resident
    members: dict[Resident, None] = field(default_factory=dict)
    """All of them, oldest first, until they are gone."""
    staying: int = 0
    """Those that no room is promised of."""


class SharedMemory:
    """All parts that models have in common, by device and name.

    `resize` books a model's footprint anew, in every sum that it is part of.
    """

    def __init__(self, resize: Callable[[Resident, int], None]) -> None:
        self._resize = resize
        self._sharers: dict[tuple[str, str], Sharers] = {}

    def __iter__(self) -> Iterator[Sharers]:
        return iter(self._sharers.values())

    def of(self, resident: Resident) -> Sharers | None:
        """Return who has in common what `resident` has in common with others."""
        return None if resident.shared is None else self._at(resident.device, resident.shared)

    def missing_for(self, device: str, part: SharedPart | None) -> int:
        """Return the bytes that one more model with that part would bring along."""
        if part is None:
            return 0
        # Where all that have it are leaving, it may be gone before the model is there.
        sharers = self._at(device, part)
        return 0 if sharers is not None and sharers.staying else part.size

    def freed_by(self, victims: Sequence[Resident], wanted: SharedPart | None) -> int:
        """Return the bytes of shared memory that go if all these leave, the last of which counts.

        None of what is `wanted`: the model that they leave for takes that over.
        """
        # Asked for each victim in turn, so that the part counts with the one that completes it.
        last = victims[-1]
        sharers = self.of(last)
        if sharers is None or (wanted is not None and wanted.name == sharers.part.name):
            return 0
        leaving = sum(self.of(each) is sharers for each in victims)
        return sharers.carrier.carried if leaving == sharers.staying else 0

    def book(self, resident: Resident, part: SharedPart | None) -> None:
        """Note what a model that begins to load is expected to have in common with others.

        Its footprint counts that already where it brings it along (`missing_for`).
        """
        if part is not None:
            # What is only expected is booked smaller where it could never come free as a whole.
            self._join(resident, part, min(part.size, resident.footprint))

    def change(self, resident: Resident, part: SharedPart | None) -> None:
        """Note anew what a model that stays has in common with others."""
        if resident.shared is not None and (part is None or part.name != resident.shared.name):
            self.leave(resident)
        if part is None:
            return
        if resident.shared is None:
            self._join(resident, part, part.size)
        sharers = self._sharers[resident.device, part.name]
        # The latest word on its size holds; of a load that was only expected, less may be booked.
        if part != sharers.part or sharers.carrier.carried != part.size:
            sharers.part = part
            self._carry(sharers.carrier, part.size)

    # Who carries a part, whenever somebody comes, is promised, is kept after all, or goes:
    # 1. The first model that has it.
    # 2. If that is promised and others stay: the oldest of those. So the room that is counted on
    #    never holds what will still be there.
    # 3. If all that have it are promised: whoever of them carried it last, so that its bytes are
    #    in the room that comes free; and the first that comes or stays after all takes it over.
    # 4. The last to go takes it along, and it is booked no more.

    def _join(self, resident: Resident, part: SharedPart, size: int) -> None:
        """Count a model in; where it carries the part, its footprint is the caller's to book."""
        resident.shared = part
        sharers = self._at(resident.device, part)
        if sharers is None:
            sharers = Sharers(part, resident.device, resident)
            self._sharers[resident.device, part.name] = sharers
            resident.carried = size
        elif not sharers.staying:
            # Case 3: it may be brought along anew, and then its size is the newcomer's word.
            self._carry(sharers.carrier, 0)
            sharers.part, sharers.carrier = part, resident
            resident.carried = size
        sharers.members[resident] = None
        sharers.staying += 1

    def promised(self, resident: Resident) -> None:
        """Have another carry on what a model has in common with it; called as it becomes promised.

        What only those have that are leaving, leaves with them.
        """
        sharers = self.of(resident)
        if sharers is None:
            return
        sharers.staying -= 1
        if sharers.carrier is resident and sharers.staying:
            heir = next(each for each in sharers.members if not each.promised)
            self._hand_over(sharers, heir)

    def unpromised(self, resident: Resident) -> None:
        """Undo `promised`; called as the promise ends."""
        sharers = self.of(resident)
        if sharers is None:
            return
        sharers.staying += 1
        # A carrier is promised only while all are (case 3), so this one is the first that stays.
        if sharers.carrier.promised:
            self._hand_over(sharers, resident)

    def leave(self, resident: Resident) -> None:
        """Forget a model that is not promised; what nobody has any more is not booked any more."""
        sharers = self.of(resident)
        if sharers is None:
            return
        del sharers.members[resident]
        sharers.staying -= 1
        if not sharers.members:
            del self._sharers[resident.device, sharers.part.name]
            self._carry(resident, 0)
        elif sharers.carrier is resident:
            # Its promise ended just before this, so that it may carry what all leave with (case 3).
            staying = (each for each in sharers.members if not each.promised)
            self._hand_over(sharers, next(staying, next(iter(sharers.members))))
        resident.shared = None

    def _hand_over(self, sharers: Sharers, heir: Resident) -> None:
        earlier, sharers.carrier = sharers.carrier, heir
        size = earlier.carried
        self._carry(earlier, 0)
        self._carry(heir, size)

    def _carry(self, resident: Resident, size: int) -> None:
        """Have a model carry so many bytes, as part of its footprint."""
        grown, resident.carried = size - resident.carried, size
        self._resize(resident, resident.footprint + grown)

    def _at(self, device: str, part: SharedPart) -> Sharers | None:
        return self._sharers.get((device, part.name))
