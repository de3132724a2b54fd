"""Adapters that others wrote: an error or a wrong value leaves out only what it concerns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from greenroom.adapter import LeftOut, ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog import discovery, registry
from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import load_config


class Odd(ToneTTSAdapter):
    """Finds whatever `finds` returns."""

    listed = True

    finds: Callable[[], Any] = staticmethod(list)

    @classmethod
    def discover(cls, directories: Any) -> Iterable[Any]:
        return cls.finds()  # type: ignore[no-any-return]


@pytest.fixture
def beside_tone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Catalog]]:
    """Return the catalog of `Odd` and of tones, with a registered door for both."""
    points = [
        EntryPoint("odd", f"{__name__}:Odd", registry.GROUP),
        EntryPoint("tone", "greenroom.adapters.tone:ToneTTSAdapter", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points))
    registry.refresh()
    registry._classes["odd"] = Odd

    def catalog(finds: Any) -> Catalog:
        monkeypatch.setattr(Odd, "finds", staticmethod(finds))
        return Catalog.from_config(load_config(), named=("tone-440",))

    yield catalog
    registry.refresh()


def raising(error: BaseException) -> Callable[[], Any]:
    def finds() -> Any:
        raise error

    return finds


def raising_later(error: BaseException) -> Callable[[], Any]:
    def finds() -> Any:
        yield ModelSpec("odd-one", "odd")
        raise error

    return finds


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


ERRORS = [
    OSError("no GPU"),
    SystemExit(1),
    RecursionError(),
    UnsayableError(),
    MemoryError(),
    StopIteration(),
    GeneratorExit(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_discovery_that_raises_hides_no_other_adapter(
    beside_tone: Callable[[Any], Catalog], error: BaseException
) -> None:
    catalog = beside_tone(raising(error))
    assert "tone-440" in catalog
    assert [each for each in catalog.problems if type(error).__name__ in each]


def test_what_was_found_before_a_discovery_failed_is_served(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(raising_later(OSError("gone")))
    assert {"odd-one", "tone-440"} <= {spec.model_id for spec in catalog}
    assert catalog.problems == ("what adapter Odd finds is left out: OSError: gone.",)


def test_a_discovery_without_end_is_cut_off(
    beside_tone: Callable[[Any], Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MAX_MODELS", 50)
    catalog = beside_tone(lambda: (ModelSpec(f"odd-{n}", "odd") for n in iter(int, 1)))
    assert "odd-0" in catalog
    assert "tone-440" in catalog


def spec(**given: Any) -> ModelSpec:
    return ModelSpec(**({"model_id": "odd-one", "adapter": "odd"} | given))


@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        7,
        "tone-1",
        {"model_id": "x"},
        ModelSpec,
        spec(model_id=7),
        spec(model_id=""),
        spec(model_id="a\x1b]0;title\x07"),
        spec(model_id="\udc80"),
        spec(model_id="x" * 201),
        spec(model_id=["unhashable"]),
        spec(adapter="nobody"),
        spec(adapter=7),
        spec(path=7),
        spec(path=b"/a"),
        spec(path="a\0b"),
        spec(path="\udc80"),
        spec(device=None),
        spec(device="cuda\x1b"),
        spec(languages="en"),
        spec(languages=(1,)),
        spec(languages=("en\x07",)),
        spec(tags=None),
        spec(tags=("\u202e",)),
        spec(aliases=({},)),
        spec(aliases=("",)),
        spec(options=[("a", 1)]),
        spec(options={1: 2}),
        spec(options={"nonsense": 2}),
        spec(footprint_mb=float("nan")),
        spec(footprint_mb=float("inf")),
        spec(footprint_mb=-1),
        spec(footprint_mb="much"),
        spec(footprint_mb=10**400),
        spec(footprint_mb=True),
        spec(ttl_ms=float("nan")),
        spec(ttl_ms="soon"),
        spec(ttl_ms=10**400),
    ],
    ids=lambda each: str(each)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_model_is_left_out_and_the_others_are_served(
    beside_tone: Callable[[Any], Catalog], rubbish: Any
) -> None:
    catalog = beside_tone(lambda: [rubbish, ModelSpec("odd-good", "odd")])
    assert "odd-good" in catalog
    assert "tone-440" in catalog
    assert len(catalog) == 9
    (problem,) = catalog.problems
    assert problem.isprintable()
    assert "is left out: " in problem


@pytest.mark.parametrize("rubbish", [7, None, object()], ids=["number", "none", "object"])
def test_a_discovery_that_returns_no_list_hides_no_other_adapter(
    beside_tone: Callable[[Any], Catalog], rubbish: Any
) -> None:
    catalog = beside_tone(lambda: rubbish)
    assert "tone-440" in catalog
    assert "TypeError" in catalog.problems[0]


def test_of_two_models_of_one_id_from_one_adapter_the_first_counts(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(lambda: [spec(tags=("first",)), spec(tags=("second",)), spec()])
    assert catalog.get("odd-one").tags == ("first",)
    assert catalog.problems == ()


def test_lists_in_a_model_become_tuples(beside_tone: Callable[[Any], Catalog]) -> None:
    made = beside_tone(lambda: [spec(tags=["a"], aliases=["b"])]).get("b")
    assert (made.tags, made.aliases) == (("a",), ("b",))


def test_options_that_an_adapter_fails_to_check_end_only_that_model(
    beside_tone: Callable[[Any], Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(options: Any) -> None:
        if options:
            raise ZeroDivisionError

    monkeypatch.setattr(Odd, "check_options", check)
    catalog = beside_tone(lambda: [spec(options={"speed": 1}), spec(model_id="odd-two")])
    assert "odd-two" in catalog
    assert catalog.problems == (
        "odd-one is left out: its options cannot be checked: ZeroDivisionError.",
    )


def test_an_adapter_may_say_itself_what_it_leaves_out(
    beside_tone: Callable[[Any], Catalog],
) -> None:
    catalog = beside_tone(lambda: [LeftOut("/a/b", "line 3: is odd; mend it")])
    assert catalog.problems == ("/a/b is left out: line 3: is odd; mend it.",)


@pytest.mark.parametrize("raised", [SystemExit, GeneratorExit])
def test_a_check_of_options_that_would_end_the_process_ends_its_model_only(
    beside_tone: Callable[[Any], Catalog],
    monkeypatch: pytest.MonkeyPatch,
    raised: type[BaseException],
) -> None:
    def check(options: object) -> None:
        raise raised

    monkeypatch.setattr(Odd, "check_options", check)
    catalog = beside_tone(lambda: [ModelSpec("odd-one", "odd")])
    assert "odd-one" not in catalog
    assert "tone-440" in catalog
