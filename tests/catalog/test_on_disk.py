"""What lists say of a model on the disk."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import pytest

from greenroom import ModelSpec
from greenroom.adapters.tone import ToneTTSAdapter
from greenroom.catalog.on_disk import is_prepared, size_of


def test_the_size_is_that_of_the_models_main_file(tmp_path: Path) -> None:
    file = tmp_path / "voice.onnx"
    file.write_bytes(b"x" * 1234)
    assert size_of(ModelSpec("a", "tone", file)) == 1234
    for nothing in (None, tmp_path, tmp_path / "no such file", "\0"):
        assert size_of(ModelSpec("a", "tone", nothing)) is None


@pytest.mark.parametrize("kept", [True, False, None])
def test_a_voice_is_prepared_if_its_engine_says_so(kept: bool | None) -> None:
    class Kept:
        def is_prepared(self, spec: ModelSpec) -> bool | None:
            return kept

    class Adapter(ToneTTSAdapter):
        preparation: ClassVar[Any] = Kept()

    assert is_prepared(ModelSpec("a", Adapter)) is kept


def test_an_engine_without_prepared_forms_has_none() -> None:
    assert is_prepared(ModelSpec("a", ToneTTSAdapter)) is None


def test_an_engine_that_fails_to_say_is_named_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def is_prepared(self, spec: ModelSpec) -> bool | None:
            raise SystemExit("no")

    class Adapter(ToneTTSAdapter):
        preparation: ClassVar[Any] = Broken()

    with caplog.at_level(logging.WARNING):
        assert is_prepared(ModelSpec("a", Adapter)) is None
    assert "model a: is_prepared raised" in caplog.text
