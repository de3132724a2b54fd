"""YAML that others wrote: plain values, and bounds that hold before anything is built."""

from __future__ import annotations

import datetime
import math
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from greenroom.untrusted import bounded_yaml
from greenroom.untrusted.bounded_yaml import DEPTH, Limits, YamlProblem, parse

LIMITS = Limits(size=64 * 1024, values=1_000)


def read(text: str) -> Any:
    return parse(text, LIMITS).content


def refused(text: str) -> str:
    with pytest.raises(YamlProblem) as caught:
        read(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.fixture(params=["CSafeLoader", "SafeLoader"], autouse=True)
def _loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold every sentence with libyaml and without."""
    loader = getattr(yaml, request.param, None)
    if loader is None:
        pytest.skip("there is no libyaml")
    monkeypatch.setattr(bounded_yaml, "_Loader", loader)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n---\n", None),
        ("a: 1\nb: [x, 'y', \"z\"]\nc: {d: null, e: ~, f: }", None),
        ("[1, -2, +3, 0, 1_000, 0x1f, 0b11, 017, 9223372036854775807]", None),
        ("[1.5, -.5, 1.0e+3, .inf, -.inf, yes, no, on, off, True, FALSE]", None),
        ("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\nd: {<<: [*a, {x: 5, z: 6}], x: 0}", None),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("!!str 5", "5"),
        ("[!!int '5', !!float '1.5', !!bool 'yes', !!null '']", [5, 1.5, True, None]),
        ("[12:30, 1:2:3.5, 2024-01-01, 2024-13-45, 2024-01-01T00:00:00Z, =]", ...),
        ("{1: a, yes: b, ~: c, 1.5: d, 2024-01-01: e}", ...),
        ("[0x_, 08, 1__, '<<']", ["0x_", "08", 1, "<<"]),
    ],
)
def test_values_are_what_yaml_has_them_for_and_dates_are_text(text: str, value: Any) -> None:
    if value is None:
        value = yaml.safe_load(text)
    if value is ...:
        value = yaml.load(text, yaml.BaseLoader)
    assert read(text) == value


def test_a_number_that_is_none_is_read_as_one() -> None:
    assert math.isnan(read(".nan"))


def test_of_nested_lists_so_many_are_read_and_no_more() -> None:
    assert read("[" * DEPTH + "]" * DEPTH) is not None
    assert f"more than {DEPTH} lists" in refused("[" * (DEPTH + 1) + "]" * (DEPTH + 1))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        "[" * 5_000 + "]" * 5_000,
        "{a: " * 5_000,
        "- " * 5_000,
        "\n".join(" " * depth + "a:" for depth in range(300)),
        "\n".join(" " * depth + "-" for depth in range(300)),
        "? " * 5_000,
    ],
)
def test_depth_is_refused_with_the_line_and_without_recursion(text: str) -> None:
    assert refused(text).startswith("line ")


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{names}]")
    return "\n".join(lines)


@pytest.mark.parametrize(("levels", "width"), [(30, 9), (30, 2), (3, 400), (100, 1)])
def test_a_bomb_of_aliases_is_refused_at_once(levels: int, width: int) -> None:
    began = time.process_time()
    assert refused(bomb(levels, width)).startswith("line ")
    assert time.process_time() - began < 1.0


def test_a_bomb_of_merged_keys_is_refused() -> None:
    lines = ["a0: &a0 {k0: 1, l0: 2}"]
    for level in range(1, 30):
        below = ", ".join([f"*a{level - 1}"] * 4)
        lines.append(f"a{level}: &a{level} {{<<: [{below}], k{level}: 1}}")
    assert "values" in refused("\n".join(lines))


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "*nowhere", "&a [&b [*a], *b]"])
def test_an_alias_stands_only_for_what_is_whole(text: str) -> None:
    assert "stands for nothing" in refused(text) or "undefined alias" in refused(text)


def test_an_alias_is_as_deep_as_what_it_stands_for() -> None:
    nested = "[" * 30 + "]" * 30
    assert read(f"- &a {nested}\n- [[*a]]") is not None
    assert "inside each other" in refused(f"- &a {nested}\n- {'[' * 15}*a{']' * 15}")
    chain = "\n".join(["- &a0 [x]", *(f"- &a{n} [*a{n - 1}]" for n in range(1, 60))])
    assert "inside each other" in refused(chain)


def test_an_alias_is_counted_wherever_it_stands() -> None:
    wide = "a: &a [" + ", ".join("x" * 100) + "]\nb: "
    assert len(read(wide + "[" + ", ".join(["*a"] * 8) + "]")["b"]) == 8
    assert "more than 1,000 values" in refused(wide + "[" + ", ".join(["*a"] * 12) + "]")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is there twice; keep one"),
        ("a:\n- {b: 1, b: 2}", 2, "the key 'b' is there twice"),
        ("'a': 1\na: 2", 2, "twice"),
        ("a: 1\n\n? [b]\n: c", 3, "a key must be text"),
        ("a: &a 1\n*a : 2", 2, "a key must be text"),
        ("a: 1\n--- \nb: 2", 2, "a second document"),
        ("a: [\n", 1, "is not YAML"),
        ("a: b: c", 1, "is not YAML"),
        ("a: 'b", 1, "is not YAML"),
        ("\t- a", 1, "is not YAML"),
        ("a: 1\nb: \0", 2, "is not YAML"),
        ("a: \x1b[2J", 1, "is not YAML"),
        ("a: @b", 1, "is not YAML"),
        ("a: 1\nb: !!binary aGk=", 2, "the tag !!binary is not known"),
        ("!!python/object/apply:os.system [ls]", 1, "the tag !!python"),
        ("!!set {a, b}", 1, "the tag !!set"),
        ("!!omap [a: 1]", 1, "the tag !!omap"),
        ("!!int x", 1, "the tag !!int"),
        ("!<tag:evil,\u202e> 1", 1, ""),
        ("a: !!timestamp x", 1, "the tag !!timestamp"),
        ("a: 1\nb: 9223372036854775808", 2, "a number is too large"),
        ("a: " + "9" * 5_000, 1, "a number is too large"),
        ("a: -" + "9" * 400, 1, "a number is too large"),
        ("a: 0x" + "f" * 60_000, 1, "a number is too large"),
        ("<<: [1]", 1, "`<<` takes a mapping"),
        ("<<: 1", 1, "`<<` takes a mapping"),
        ("[" + ", ".join("x" * 1_001) + "]", 1, "more than 1,000 values"),
    ],
)
def test_what_is_refused_has_its_line_and_its_reason(text: str, line: int, words: str) -> None:
    told = refused(text)
    assert words in told
    assert told.startswith(f"line {line}: ")


def test_a_place_is_found_again_by_its_line() -> None:
    document = parse("a: 1\nb:\n- x\n- c: 2\n  d: [1,\n    2]\n", LIMITS)
    places: list[tuple[tuple[str | int, ...], int | None]] = [
        (("a",), 1),
        (("b",), 2),
        (("b", 0), 3),
        (("b", 1, "c"), 4),
        (("b", 1, "d"), 5),
        (("b", 1, "d", 1), 6),
        (("b", 1, "nothing", 7), 4),
        (("b", 9), 2),
        (("nothing",), None),
        ((), None),
    ]
    assert [(place, document.line_of(place)) for place, _ in places] == places


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text("ab \n:'é-#", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(values)
def test_what_was_written_as_yaml_is_read_as_it_was(value: Any) -> None:
    assert read(yaml.safe_dump(value, allow_unicode=True)) == value


@given(st.text(max_size=60) | st.text("[]{}:,-&*!<?|>'\"#%@ \n\tab01.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read(text)
    except YamlProblem:
        return
    left = [found]
    while left:
        each = left.pop()
        assert isinstance(each, str | int | float | bool | None | list | dict)
        assert not isinstance(each, datetime.date)
        left.extend(
            each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        )
