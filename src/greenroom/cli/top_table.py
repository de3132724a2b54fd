"""What `greenroom top` shows, as text: figures of the worker, and a table of its models.

Pure: from one look at a worker, and how it is to be sorted and filtered, to lines of a width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from greenroom.cli.ps import expiry_of, state_of
from greenroom.cli.terminal.lines import wrapped_lines
from greenroom.cli.terminal.tables import table_lines
from greenroom.errors import duration
from greenroom.memory.usage import MIB
from greenroom.statistics import (
    ProcessMemoryStatistics,
    ResidentStatistics,
    SharedMemoryStatistics,
    counted,
)
from greenroom.untrusted.owners import summed
from greenroom.untrusted.printable import escaped

if TYPE_CHECKING:
    from greenroom.worker.figures import MemoryFigures, SharedFigures, WorkerFigures
    from greenroom.worker.speech_log import SpeechFigures

TREND_S = 60.0
"""For how long one who watches is told that requests were refused."""

_SPACE = "   "
_MOST_PARTS = 3
"""Processes and reasons that are told by name."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one worker answered at one moment."""

    server: str
    figures: WorkerFigures
    residents: tuple[ResidentStatistics, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One model: in memory, or gone and spoken with within the last minute."""

    model_id: str
    resident: ResidentStatistics | None
    speech: SpeechFigures | None
    per_minute: float


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    heading: str
    cell: Callable[[Row], str]
    key: Callable[[Row], Any]
    """What rows are sorted by."""
    number: bool = True
    """Numbers stand at the right, and begin with the largest."""


@dataclass(frozen=True, slots=True)
class View:
    """How the models are sorted, and which of them are shown."""

    column: int = 2
    reverse: bool = False
    words: str = ""
    """Each has to be in the model's id, its state or the name of a holder."""

    def moved(self, by: int) -> View:
        """Return a view that is sorted by another column."""
        return replace(self, column=(self.column + by) % len(COLUMNS), reverse=False)

    def turned(self) -> View:
        """Return a view with the order turned round."""
        return replace(self, reverse=not self.reverse)

    def filtered(self, words: str) -> View:
        """Return a view of what has these words."""
        return replace(self, words=words)


class Refusals:
    """How many requests a worker has refused while somebody watched it."""

    def __init__(self) -> None:
        self._totals: deque[tuple[float, int]] = deque()
        self._boot_id = ""

    def seen(self, figures: WorkerFigures, now: float) -> int:
        """Return how many were refused within `TREND_S` of the moments at which it was seen."""
        if figures.boot_id != self._boot_id:
            self._totals.clear()
            self._boot_id = figures.boot_id
        total = sum(figures.refused.values())
        self._totals.append((now, total))
        while now - self._totals[0][0] > TREND_S:
            self._totals.popleft()
        return total - self._totals[0][1]


def head_lines(look: Look, width: int | None, refused_lately: int = 0) -> list[str]:
    """Return the figures of a worker as lines that fit a width."""
    found, recent = look.figures, look.figures.recent
    state = "draining" if found.draining else "ready" if found.ready else "not ready"
    ended = sum(found.ended.values())
    per_minute = _per_minute(recent, found.window_s)
    failed = f", {found.ended['failed']:,} failed" if found.ended.get("failed") else ""
    gaps = f", {duration(found.late_s)} in all" if found.gaps else ""
    parts = [
        [look.server, f"greenroom {found.version}", state, f"up {duration(found.up_s)}"],
        [
            f"streams {found.streams}" + _waiting(found.streams_waiting),
            f"waiting for room {found.waiting}",
            f"sessions {found.sessions}",
            f"requests {per_minute:.0f}/min ({ended:,} since the start{failed})",
        ],
        [
            f"first audio p50 {_time(recent.first_audio_p50_s)},"
            f" p95 {_time(recent.first_audio_p95_s)}",
            f"real-time factor {_factor(recent.real_time_factor)}",
            f"gaps {recent.gaps} ({found.gaps:,} since the start{gaps})",
        ],
        [
            f"cores {found.capacity_used:.0%}",
            f"models {found.residents} of {found.places}",
            f"booked {_size(found.footprint)} of {_size(found.budget)} MB",
        ],
        *([part] for part in _shared(found.shared)),
        _processes(found),
        [_refusals(found.refused, refused_lately)],
    ]
    return [line for part in parts for line in _fitted([escaped(each) for each in part], width)]


def rows_of(look: Look, view: View) -> list[Row]:
    """Return the models that are shown, in their order."""
    figures = look.figures
    residents = {each.model_id: each for each in look.residents}
    rows = [
        Row(name, residents.get(name), speech, _per_minute(speech, figures.window_s))
        for name in dict.fromkeys([*residents, *figures.models])
        for speech in (figures.models.get(name),)
    ]
    rows = [row for row in rows if _has(row, view.words)]
    rows.sort(key=lambda row: row.model_id)  # of what is alike
    column = COLUMNS[view.column]
    rows.sort(key=column.key, reverse=column.number is not view.reverse)
    return rows


def models_lines(look: Look, view: View, width: int | None) -> list[str]:
    """Return the table of models, headings first; an arrow is at the one it is sorted by."""
    rows = rows_of(look, view)
    headings = [column.heading for column in COLUMNS]
    sorted_by = COLUMNS[view.column]
    downward = sorted_by.number is not view.reverse
    marked = f"{sorted_by.heading}{'▼' if downward else '▲'}"
    headings[view.column] = marked
    names = {column.heading: name for column, name in zip(COLUMNS, headings, strict=True)}
    return table_lines(
        headings,
        [[escaped(column.cell(row)) for column in COLUMNS] for row in rows],
        right=[names[column.heading] for column in COLUMNS if column.number],
        spare=[names[each] for each in _SPARE if each != sorted_by.heading],
        width=width,
    )


def as_json(look: Look) -> dict[str, Any]:
    """Return a look as JSON's values."""
    figures = asdict(look.figures)
    speech = figures.pop("models")
    residents = {each.model_id: asdict(each) for each in look.residents}
    names = dict.fromkeys([*residents, *speech])
    return {
        "server": look.server,
        **figures,
        "models": [
            {"model_id": name, "resident": residents.get(name), "recent": speech.get(name)}
            for name in names
        ],
    }


def _has(row: Row, words: str) -> bool:
    owners = () if row.resident is None else row.resident.owners
    said = " ".join((row.model_id, _state(row), *owners)).casefold()
    return all(word in said for word in words.casefold().split())


def _fitted(parts: Sequence[str], width: int | None) -> Iterator[str]:
    """Yield lines of as many parts as fit into each; a part that fits into none is broken."""
    line = ""
    for part in parts:
        longer = f"{line}{_SPACE}{part}" if line else part
        if line and width is not None and cell_len(longer) > width:
            yield from wrapped_lines(line, width)
            line = part
        else:
            line = longer
    yield from wrapped_lines(line, width)


def _waiting(streams: int) -> str:
    return f" ({streams} {'waits' if streams == 1 else 'wait'})" if streams else ""


def _shared(parts: Sequence[SharedFigures]) -> Iterator[str]:
    """Yield what models have in common, as `ps` and `explain` tell it; the largest by name."""
    largest = sorted(parts, key=lambda part: -part.size)
    for part in largest[:_MOST_PARTS]:
        said = SharedMemoryStatistics(part.name, part.size / MIB, part.device, part.models)
        yield f"shared {said}"
    if rest := largest[_MOST_PARTS:]:
        yield f"shared {counted(len(rest), 'other')}: {_size(sum(part.size for part in rest))} MB"


def _processes(found: WorkerFigures) -> list[str]:
    """Return what the worker's own process takes, and those of engines, the largest by name."""
    parts = [] if found.memory is None else [f"worker's own process {_own(found.memory)}"]
    engines: dict[str, int] = {}
    for process in found.processes:
        engines[process.name] = engines.get(process.name, 0) + (process.memory or 0)
    if engines:
        largest = sorted(engines.items(), key=lambda each: -each[1])
        named = [f"{name} {_size(size)} MB" for name, size in largest[:_MOST_PARTS]]
        rest = sum(size for _, size in largest[_MOST_PARTS:])
        more = len(largest) - _MOST_PARTS
        named += [f"{counted(more, 'other')} {_size(rest)} MB"] if more > 0 else []
        parts.append(f"engines {', '.join(named)}")
    if found.crashes:
        parts.append(f"crashes {_most(found.crashes)}")
    return parts


def _own(memory: MemoryFigures) -> str:
    whole = None if memory.proportional is None else memory.proportional / MIB
    return str(ProcessMemoryStatistics(memory.anonymous / MIB, memory.mapped / MIB, whole))


def _refusals(refused: Mapping[str, int], lately: int) -> str:
    trend = f"; {lately:,} within the last minute" if lately else ""
    return f"refused {_most(refused)}{trend}"


def _most(counts: Mapping[str, int]) -> str:
    """Return the sum of counts, and the largest of them by name."""
    total = sum(counts.values())
    if not total:
        return "0"
    most = sorted(counts.items(), key=lambda each: -each[1])
    named = [f"{name} {count:,}" for name, count in most[:_MOST_PARTS]]
    rest = sum(count for _, count in most[_MOST_PARTS:])
    named += [f"others {rest:,}"] if rest else []
    return f"{total:,} ({', '.join(named)})"


def _per_minute(speech: SpeechFigures | None, window_s: float) -> float:
    return 60.0 * speech.ended / max(window_s, 1.0) if speech else 0.0


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _factor(factor: float | None) -> str:
    return "-" if factor is None else f"{factor:.2f}"


def _size(size: int) -> str:
    return f"{size / MIB:,.0f}"


def _state(row: Row) -> str:
    return "gone" if row.resident is None else state_of(row.resident)


def _speech(pick: Callable[[SpeechFigures], float | None]) -> Callable[[Row], float | None]:
    return lambda row: None if row.speech is None else pick(row.speech)


def _last(figure: float | None) -> float:
    """Return a key that puts models without the figure behind all others."""
    return -1.0 if figure is None else figure


def _resident(pick: Callable[[ResidentStatistics], float]) -> Callable[[Row], float]:
    return lambda row: -1.0 if row.resident is None else pick(row.resident)


def _if_there(tell: Callable[[ResidentStatistics], str]) -> Callable[[Row], str]:
    return lambda row: "-" if row.resident is None else tell(row.resident)


def _process(resident: ResidentStatistics) -> str:
    process = resident.process
    if process is None:
        return "-"
    memory = "" if process.memory_mb is None else f" {process.memory_mb:,.0f} MB"
    return f"{process.name}{memory}"


_P50 = _speech(lambda speech: speech.first_audio_p50_s)
_P95 = _speech(lambda speech: speech.first_audio_p95_s)
_RTF = _speech(lambda speech: speech.real_time_factor)

COLUMNS: tuple[Column, ...] = (
    Column("MODEL", lambda row: row.model_id, lambda row: row.model_id, number=False),
    Column("STATE", _state, _state, number=False),
    Column("STREAMS", _if_there(lambda r: str(r.streams)), _resident(lambda r: r.streams)),
    Column("/MIN", lambda row: f"{row.per_minute:.0f}", lambda row: row.per_minute),
    Column("P50", lambda row: _time(_P50(row)), lambda row: _last(_P50(row))),
    Column("P95", lambda row: _time(_P95(row)), lambda row: _last(_P95(row))),
    Column("RTF", lambda row: _factor(_RTF(row)), lambda row: _last(_RTF(row))),
    Column("GAPS", _if_there(lambda r: str(r.gaps)), _resident(lambda r: r.gaps)),
    Column(
        "MEMORY",
        _if_there(lambda r: f"{r.footprint_mb:,.0f} MB"),
        _resident(lambda r: r.footprint_mb),
    ),
    Column("PROCESS", _if_there(_process), lambda row: _if_there(_process)(row), number=False),
    Column(
        "IDLE",
        _if_there(lambda r: duration(r.idle_s) if r.idle_s else "-"),
        _resident(lambda r: r.idle_s),
    ),
    Column(
        "EXPIRES",
        _if_there(expiry_of),
        _resident(lambda r: -0.5 if r.expires_in_s is None else r.expires_in_s),
    ),
    Column(
        "HELD BY",
        _if_there(lambda r: summed(r.owners, most=2)),
        lambda row: _if_there(lambda r: summed(r.owners))(row),
        number=False,
    ),
)
"""P50 and P95 are of the time to the first audio, RTF is the real-time factor; these and /MIN are
of the last minute, GAPS since the model was loaded."""

_SPARE = ("HELD BY", "PROCESS", "EXPIRES", "IDLE", "RTF", "GAPS", "/MIN", "P50", "MEMORY")
"""The columns that a narrow terminal leaves out, the first of them first."""
