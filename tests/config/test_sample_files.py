"""The sample configurations are complete, true, and work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import Config, ModelSettings, load_config

CONFIGS = Path(__file__).parents[2] / "configs"
WORKER = CONFIGS / "worker.yaml"

FIXED = """\
model_manager:
  default_model_id: "piper-en-us-joe-medium"
  preload_model_ids: []
  ttl_ms: 600000                  # idle this long: unload; 0 at once, negative never
  min_residency_ms: 120000        # keep at least this long
  evict_check_interval_ms: 30000
  resident_cap: 3                 # models in memory
  max_parallel_loads: 1           # no memory spikes from concurrent loads
"""
"""The part of the file that other people's programs rely on."""


def test_the_fixed_block_is_there_to_the_letter() -> None:
    assert FIXED in WORKER.read_text()


def test_every_value_of_the_sample_is_the_default() -> None:
    assert load_config(WORKER) == Config()


def test_every_key_is_in_the_sample() -> None:
    content = yaml.safe_load(WORKER.read_text())
    assert list(content) == list(Config.model_fields)
    for section, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert set(content[section]) == set(kind.model_fields), section


def test_every_key_of_a_model_is_in_the_sample_and_the_example_works() -> None:
    lines = WORKER.read_text().splitlines()
    example = [line[1:] for line in lines if re.match("#   (- |  )[a-z_]+: ", line)]
    (entry,) = yaml.safe_load("\n".join(example))
    assert set(entry) == set(ModelSettings.model_fields)
    spec = Catalog.from_config(load_config(overrides={"models": [entry]})).get("slow-joe")
    assert spec.options == {"speed": 0.8}


def test_every_key_of_the_sample_is_explained() -> None:
    evident = {"model_manager", "models", "worker", "voices"}
    evident |= {"default_model_id", "preload_model_ids", "evict_check_interval_ms"}
    evident |= {"languages", "tags", "model_id"}
    for line in WORKER.read_text().splitlines():
        found = re.match(r"#?[ -]*([a-z_]+): ", line + " ")
        if found and found[1] not in evident:
            assert " # " in line, line


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_no_line_is_too_long_to_read(file: Path) -> None:
    assert max(map(len, file.read_text().splitlines())) <= 100


def test_the_voices_of_the_demo_are_one_file_with_other_settings() -> None:
    catalog = Catalog.from_config(load_config(CONFIGS / "demo.yaml"))
    voices = [spec for spec in catalog if spec.adapter == "piper"]
    assert len({spec.path for spec in voices}) == 1
    assert len({str(spec.options) for spec in voices}) == len(voices) == 6
