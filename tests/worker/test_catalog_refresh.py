"""Voices that come, go and are replaced while a worker speaks."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from greenroom import Catalog, ConfigError, ModelManager, ModelNotFoundError
from greenroom.catalog import registry
from greenroom.config.schema import Config
from greenroom.worker.catalog_refresh import CatalogChange, CatalogRefresh
from greenroom.worker.directory_watch import DirectoryWatch
from tests.installed_adapter import install_adapter
from tests.waiting import until

BEEP = """
from greenroom.adapter import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
class Beep(ToneTTSAdapter):
    listed = True
    @classmethod
    def discover(cls, directories):
        for place in directories:
            for path in sorted(place.glob("*.beep")) if place.is_dir() else ():
                aliases = (f"{path.stem}-too",)
                yield ModelSpec(path.stem, "beep", path, aliases=aliases)
    @classmethod
    def check_options(cls, options):
        pass
"""
"""An adapter whose voices are files `NAME.beep`."""


@pytest.fixture
def voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with the voices amy and joe."""
    install_adapter(tmp_path, "beep", "Beep", BEEP)
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    place = tmp_path / "voices"
    place.mkdir()
    for name in ("amy", "joe"):
        (place / f"{name}.beep").write_text(name)
    yield place
    registry.refresh()
    sys.modules.pop("beep", None)


def config_of(*places: Path, **more: object) -> Config:
    return Config.model_validate(
        {
            "voices": {"directories": [str(place) for place in places], "packages": []},
            "model_manager": {"default_model_id": "amy"},
            **more,
        }
    )


@pytest.fixture
async def manager(voices: Path) -> AsyncIterator[ModelManager]:
    config = config_of(voices)
    catalog = await asyncio.to_thread(Catalog.from_config, config)
    made = ModelManager(catalog=catalog, default_model_id="amy", resident_cap=8)
    async with made:
        yield made


@pytest.fixture
async def refresh(manager: ModelManager, voices: Path) -> AsyncIterator[CatalogRefresh]:
    made = CatalogRefresh(manager, config_of(voices))
    assert await made.refresh() == CatalogChange()
    yield made
    await made.end()


def names(manager: ModelManager) -> list[str]:
    return [spec.model_id for spec in manager.list_catalog()]


def in_memory(manager: ModelManager) -> set[str]:
    return {resident.model_id for resident in manager.list_resident()}


async def test_a_voice_that_came_is_in_the_catalog_and_can_be_loaded(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    (voices / "kim.beep").write_text("")
    assert await refresh.refresh() == CatalogChange(added=("kim",))
    assert names(manager) == ["amy", "joe", "kim"]
    async with manager.lease("kim-too"):
        assert "kim" in in_memory(manager)


async def test_a_voice_that_was_taken_away_is_refused_at_once_and_leaves_after_its_holders(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    instance = await manager.load("joe", owner="me")
    (voices / "joe.beep").unlink()
    assert await refresh.refresh() == CatalogChange(removed=("joe",))
    assert names(manager) == ["amy"]
    await until(lambda: "joe draining" in repr(manager))
    with pytest.raises(ModelNotFoundError):
        await manager.load("joe", owner="another")
    frames = [frame async for frame in instance.synthesize_stream("One two three.")]
    assert frames
    assert "joe" in in_memory(manager)
    assert manager.explain("joe").holders
    await manager.release("joe", owner="me")
    await until(lambda: "joe" not in in_memory(manager))


async def test_a_voice_that_came_back_while_it_was_leaving_can_be_loaded(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    await manager.load("joe", owner="me")
    (voices / "joe.beep").unlink()
    await refresh.refresh()
    (voices / "joe.beep").write_text("again")
    await refresh.refresh()
    waiting = asyncio.ensure_future(manager.load("joe", owner="another"))
    await manager.release("joe", owner="me")
    assert (await waiting).spec.model_id == "joe"
    await manager.release("joe", owner="another")


async def test_a_voice_that_was_replaced_is_loaded_anew_once_nobody_uses_it(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    before = await manager.load("joe", owner="me")
    (voices / "joe.beep").write_text("another one")
    assert await refresh.refresh() == CatalogChange(replaced=("joe",))
    assert await manager.load("joe", owner="another") is before, "nobody waits"
    await manager.release("joe", owner="me")
    await manager.release("joe", owner="another")
    await until(lambda: "joe" not in in_memory(manager))
    assert await manager.load("joe", owner="me") is not before
    await manager.release("joe", owner="me")


async def test_the_default_stays_though_its_file_is_gone(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (voices / "amy.beep").unlink()
    assert await refresh.refresh() == CatalogChange()
    assert "amy" in names(manager)
    assert "the default model 'amy' is not there any more" in caplog.text
    async with manager.lease("amy-too"):
        pass


async def test_a_model_on_a_device_without_a_budget_waits_for_the_next_start(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    on_gpu = {"model_id": "gpu", "variant_of": "joe", "device": "cuda:7"}
    assert await refresh.refresh(config_of(voices, models=[on_gpu])) == CatalogChange()
    assert any("gpu is left out" in problem for problem in manager.catalog.problems)


async def test_a_configuration_that_cannot_work_changes_nothing(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path
) -> None:
    (voices / "kim.beep").write_text("")
    broken = config_of(voices, models=[{"model_id": "x", "variant_of": "nobody"}])
    with pytest.raises(ConfigError, match="variant_of"):
        await refresh.refresh(broken)
    assert names(manager) == ["amy", "joe"]

    def refuse(found: Catalog) -> None:
        raise ConfigError("no.")

    with pytest.raises(ConfigError, match="no"):
        await refresh.refresh(config_of(voices), refuse)
    assert names(manager) == ["amy", "joe"]
    assert await refresh.refresh() == CatalogChange(added=("kim",))


async def test_the_directories_are_followed_also_one_that_vanishes_and_comes_back(
    manager: ModelManager, refresh: CatalogRefresh, voices: Path, tmp_path: Path
) -> None:
    following = asyncio.create_task(refresh.follow())
    try:
        (voices / "kim.beep").write_text("")
        await until(lambda: "kim" in names(manager))
        shutil.move(voices, tmp_path / "elsewhere")
        await until(lambda: names(manager) == ["amy"])
        assert not following.done()
        shutil.move(tmp_path / "elsewhere", voices)
        await until(lambda: set(names(manager)) == {"amy", "joe", "kim"})
        (voices / "lou.beep").write_text("")
        await until(lambda: "lou" in names(manager))
        (voices / "kim.beep").unlink()
        await until(lambda: "kim" not in names(manager))
    finally:
        following.cancel()
        await asyncio.wait([following], timeout=30)
    assert following.cancelled()


def test_a_directory_watch_sees_what_came_and_no_hidden_file(tmp_path: Path) -> None:
    place = tmp_path / "voices"
    watch = DirectoryWatch([place], threading.Event())
    assert watch.changed(), "what happened before it watched is not known"
    assert not watch.changed()
    place.mkdir()
    assert watch.changed()
    (place / ".half.part").write_text("")
    assert not watch.changed()
    os.replace(place / ".half.part", place / "whole")
    assert watch.changed()
    shutil.rmtree(place)
    assert watch.changed()
    while watch.changed():
        pass
    place.mkdir()
    assert watch.changed()
    while watch.changed():
        pass
    (place / "again").write_text("")
    assert watch.changed(), "the folder is another one under the same name"
