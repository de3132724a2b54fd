"""A catalog that takes over the models of another, in one step for all who hold it."""

from __future__ import annotations

import pytest

from greenroom.adapter import ModelSpec
from greenroom.catalog.catalog import Catalog
from greenroom.errors import ModelNotFoundError


def catalog(*names: str) -> Catalog:
    specs = (
        ModelSpec(name, "tone", aliases=(f"{name}-alias",), languages=(name,)) for name in names
    )
    return Catalog(specs, problems=[f"no {name}" for name in names])


def test_an_adopted_catalog_is_what_everybody_sees_from_then_on() -> None:
    held, other = catalog("amy", "joe"), catalog("joe", "kim")
    assert held.languages == ("amy", "joe")
    assert held.near("kin") == ()
    assert held.in_any_case("KIM") is None
    held.adopt(other)
    assert held.in_any_case("KIM") == "kim"
    assert [spec.model_id for spec in held] == ["joe", "kim"]
    assert held.get("kim-alias").model_id == "kim"
    assert held.languages == ("joe", "kim")
    assert held.near("kin") == ("kim",)
    assert held.problems == other.problems
    assert held.version == 1
    with pytest.raises(ModelNotFoundError):
        held.get("amy")
    with pytest.raises(ModelNotFoundError):
        held.get("amy-alias")


def test_who_reads_a_catalog_meanwhile_reads_it_to_its_end() -> None:
    held = catalog("amy", "joe")
    reading = iter(held)
    next(reading)
    held.adopt(catalog("kim"))
    assert [spec.model_id for spec in reading] == ["joe"]


def test_a_model_that_is_gone_is_known_until_it_comes_back() -> None:
    held = catalog("amy", "joe")
    held.adopt(catalog("joe"))
    held.adopt(catalog("joe", "kim"))
    assert held.known("amy").languages == ("amy",)
    assert held.known("joe") is held.get("joe")
    back = ModelSpec("amy", "tone", languages=("back",))
    held.adopt(Catalog([back]))
    assert held.known("amy").languages == ("back",)
    with pytest.raises(ModelNotFoundError):
        held.known("nobody")


def test_an_id_that_became_another_models_alias_means_that_one() -> None:
    held = catalog("amy")
    held.adopt(Catalog([ModelSpec("kim", "tone", aliases=("amy",))]))
    assert held.known("amy").model_id == "kim"
