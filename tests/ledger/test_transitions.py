"""Every event in every state: legal ones lead where the table says, the others change nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from greenroom.errors import ModelInUseError, ModelNotResidentError
from greenroom.ledger import transitions
from greenroom.ledger.backoff import Backoff
from greenroom.ledger.capacity import Capacity
from greenroom.ledger.lazy_heap import LazyHeap
from greenroom.ledger.residency import Residency
from greenroom.ledger.state import Resident, State
from greenroom.ledger.transitions import FORGOTTEN, TRANSITIONS, Event, LedgerStateError
from greenroom.ledger.wait_queue import WaitQueue
from tests.ledger.driver import LedgerDriver

NOW = 7.0


def driver_with(state: State) -> LedgerDriver:
    """Return a ledger with `amy` in a state, a neighbour, and callers that wait."""
    driver = LedgerDriver(resident_cap=3, cap_policy="hard", budgets={"cpu": 20}, min_residency=1.0)
    driver.hold("joe", footprint=5)
    driver.request("amy", footprint=10)
    if state in (State.READY, State.DRAINING):
        driver.loaded("amy")
        driver.open_stream("amy")
    if state is State.WARMING:
        driver.warming("amy")
    if state is State.DRAINING:
        driver.begin_unload("amy", drain=True)
    if state is State.UNLOADING:
        driver.failed("amy", gone=False)
    driver.at(3).request("kim", "bob", footprint=15)
    assert driver["amy"].state is state
    return driver.at(NOW)


def step(ledger: Residency, resident: Resident, event: Event) -> object:
    """Have an event happen to a resident, by the step of the ledger that is for it."""
    model_id = resident.model_id
    steps: dict[Event, Callable[[], object]] = {
        Event.WARMING: lambda: ledger.warming(resident, 0.5),
        Event.LOADED: lambda: ledger.loaded(resident, object(), NOW, footprint=9),
        Event.FAILED: lambda: ledger.failed(resident, "boom", NOW, gone=False),
        Event.OPEN_STREAM: lambda: ledger.open_stream(resident),
        Event.CLOSE_STREAM: lambda: ledger.close_stream(resident, NOW),
        Event.BEGIN_UPGRADE: lambda: ledger.begin_upgrade(resident),
        Event.END_UPGRADE: lambda: ledger.end_upgrade(resident, NOW, 3),
        Event.DRAIN: lambda: ledger.begin_unload(model_id, NOW, drain=True),
        Event.END_DRAIN: lambda: ledger.end_drain(model_id, NOW),
        Event.LEAVE: lambda: ledger.force_unload(model_id),
        Event.OVERDUE: lambda: ledger.overdue(resident, NOW),
        Event.GONE: lambda: ledger.gone(resident, NOW),
    }
    return steps[event]()


def ready_for(ledger: Residency, resident: Resident, event: Event) -> None:
    """Give a resident what an event asks for beside the state."""
    if event is Event.END_UPGRADE:
        resident.upgrading = True
    if event is Event.CLOSE_STREAM:
        resident.streams = 1
    if event is Event.LEAVE and resident.streams:
        ledger.close_stream(resident, NOW)


def everything(ledger: Residency) -> str:
    """Write down all that a ledger keeps."""

    def written(value: object) -> str:
        if isinstance(value, LazyHeap):
            return f"{sorted(entry[:2] for entry in value._heap)} {sorted(value._members)}"
        if isinstance(value, dict):
            return str({key: written(each) for key, each in value.items()})
        if isinstance(value, Capacity | WaitQueue | Backoff):
            return written(vars(value))
        return repr(value)

    kept = {name: written(value) for name, value in vars(ledger).items()}
    return f"{kept} {list(ledger.residents)} {ledger.queue.all_tickets()}"


PAIRS = list(product(State, Event))
LEGAL = [(state, event) for state, event in PAIRS if event in TRANSITIONS[state]]
ILLEGAL = [pair for pair in PAIRS if pair not in LEGAL]

REPORTS = [
    Event.WARMING,
    Event.LOADED,
    Event.FAILED,
    Event.CLOSE_STREAM,
    Event.END_UPGRADE,
    Event.OVERDUE,
    Event.GONE,
]
"""Events that the effects report of a resident; the others are asked for, and may be refused."""


@pytest.mark.parametrize(("state", "event"), LEGAL)
def test_a_legal_event_leads_to_the_state_of_the_table(state: State, event: Event) -> None:
    driver = driver_with(state)
    amy = driver["amy"]
    ready_for(driver.ledger, amy, event)
    step(driver.ledger, amy, event)
    if TRANSITIONS[state][event] is FORGOTTEN:
        assert driver.ledger.get("amy") is not amy
    else:
        assert amy.state is TRANSITIONS[state][event]


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_an_illegal_event_is_refused_and_changes_nothing(state: State, event: Event) -> None:
    driver = driver_with(state)
    amy = driver["amy"]
    ready_for(driver.ledger, amy, event)
    before = everything(driver.ledger)
    if event in REPORTS or event is Event.LEAVE:
        with pytest.raises(LedgerStateError) as caught:
            step(driver.ledger, amy, event)
        assert (caught.value.resident, caught.value.event) == (amy, event)
    elif event is Event.OPEN_STREAM:
        with pytest.raises(ModelNotResidentError):
            step(driver.ledger, amy, event)
    elif event is Event.DRAIN and amy.loading:
        with pytest.raises(ModelInUseError):
            step(driver.ledger, amy, event)
    else:
        assert not step(driver.ledger, amy, event)
    assert everything(driver.ledger) == before


def life_that_is_gone(driver: LedgerDriver) -> Resident:
    """Have a first life of `amy` end, and return it."""
    driver.hold("amy")
    first = driver["amy"]
    driver.release("amy")
    driver.begin_unload("amy")
    driver.gone("amy")
    return first


@pytest.mark.parametrize("event", REPORTS)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("again", [False, True])
def test_a_late_report_on_a_life_that_is_gone_is_refused_in_whatever_state_it_ended(
    event: Event, state: State, again: bool
) -> None:
    driver = LedgerDriver()
    first = life_that_is_gone(driver)
    if again:
        driver.hold("amy")
    first.state = state
    ready_for(driver.ledger, first, event)
    before = everything(driver.ledger)
    with pytest.raises(LedgerStateError, match="this life of it is not in memory"):
        step(driver.ledger, first, event)
    assert everything(driver.ledger) == before
    assert first.state is state


@pytest.mark.parametrize("event", REPORTS)
def test_a_report_on_another_ledgers_resident_is_refused(event: Event) -> None:
    driver, other = LedgerDriver(), LedgerDriver()
    driver.hold("amy")
    other.hold("amy")
    theirs = other["amy"]
    ready_for(other.ledger, theirs, event)
    before = everything(driver.ledger)
    with pytest.raises(LedgerStateError):
        step(driver.ledger, theirs, event)
    assert everything(driver.ledger) == before


@pytest.mark.parametrize(
    ("event", "problem"),
    [(Event.CLOSE_STREAM, "no stream is open"), (Event.END_UPGRADE, "it is not being upgraded")],
)
def test_what_has_not_begun_does_not_end(event: Event, problem: str) -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    before = everything(driver.ledger)
    with pytest.raises(LedgerStateError, match=problem):
        step(driver.ledger, driver["amy"], event)
    assert everything(driver.ledger) == before


@pytest.mark.parametrize("event", [Event.OPEN_STREAM, Event.BEGIN_UPGRADE])
def test_a_thread_inside_keeps_a_model_from_leaving(event: Event) -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    step(driver.ledger, driver["amy"], event)
    before = everything(driver.ledger)
    with pytest.raises(LedgerStateError, match="a thread is inside of it"):
        driver.force_unload("amy")
    assert everything(driver.ledger) == before


def test_the_error_says_which_report_of_which_life_and_what_would_be_legal() -> None:
    driver = LedgerDriver()
    driver.request("amy")
    with pytest.raises(LedgerStateError) as caught:
        driver.gone("amy")
    assert str(caught.value) == (
        "gone of model 'amy' (life 1) refused: it is loading, which allows warming, loaded, failed."
    )
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (Event.CLOSE_STREAM, "no stream is open"),
        (Event.END_UPGRADE, "it is not being upgraded"),
        (Event.LEAVE, "a thread is inside of it"),
        (Event.GONE, "this life of it is not in memory"),
    ],
)
def test_the_error_says_what_is_missing_where_the_state_is_right(
    event: Event, problem: str
) -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    amy = driver["amy"]
    if event is Event.LEAVE:
        driver.open_stream("amy")
    if event is Event.GONE:
        driver.force_unload("amy")
        driver.gone("amy")
    with pytest.raises(LedgerStateError) as caught:
        step(driver.ledger, amy, event)
    assert str(caught.value) == f"{event} of model 'amy' (life 1) refused: {problem}."
    assert (caught.value.resident, caught.value.event) == (amy, event)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (LedgerDriver.pin, LedgerDriver.unpin),
        (LedgerDriver.begin_upgrade, LedgerDriver.end_upgrade),
        (LedgerDriver.hit, LedgerDriver.release),
        (
            lambda driver, model_id: driver.begin_unload(model_id, drain=True),
            LedgerDriver.end_drain,
        ),
    ],
)
def test_what_is_taken_back_leaves_a_held_model_as_it_was(
    there: Callable[[LedgerDriver, str], object], back: Callable[[LedgerDriver, str], object]
) -> None:
    driver = LedgerDriver()
    driver.hold("amy")
    before = repr(driver["amy"])
    there(driver, "amy")
    assert repr(driver["amy"]) != before
    back(driver, "amy")
    assert repr(driver["amy"]) == before


@pytest.mark.parametrize("search", ["expiry", "eviction", "end of min residency"])
def test_a_search_that_meets_a_model_in_use_leaves_it_like_one_that_never_was_idle(
    search: str,
) -> None:
    drivers = []
    for idle_before in (False, True):
        driver = LedgerDriver(
            ttl=5 if search == "expiry" else -1,
            min_residency=5 if search == "end of min residency" else 0,
            resident_cap=1,
            cap_policy="hard",
        )
        driver.hold("amy")
        if idle_before:
            driver.release("amy")
            driver.hit("amy")
        driver.at(1).request("joe")
        driver.at(9).tick()
        drivers.append(driver)
    assert repr(drivers[0]["amy"].indexed) == repr(drivers[1]["amy"].indexed)


def test_every_state_is_left_for_another_and_the_last_for_none() -> None:
    assert set(TRANSITIONS) == set(State)
    for state, following in TRANSITIONS.items():
        assert set(following.values()) - {state}
    assert set(TRANSITIONS[State.UNLOADING].values()) == {State.UNLOADING, FORGOTTEN}


def test_every_event_that_moves_a_model_on_is_in_the_drawing() -> None:
    drawing = transitions.__doc__ or ""
    for state, following in TRANSITIONS.items():
        assert state.name in drawing
        for event, to in following.items():
            assert to is state or event in drawing
