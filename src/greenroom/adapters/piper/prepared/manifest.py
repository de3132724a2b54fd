"""The manifest of a prepared graph: its stages, as stored beside them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

FILE_NAME = "recipe.json"
"""Of the manifest, in the folder of its graph."""

FLOW = "flow"
"""The stage that makes the decoder's frames from those of the text; the only one that may."""

WAVEFORM = "waveform"
"""The last stage where the decoder is two: most of the work, at a reach of a frame."""


class StageManifest(BaseModel):
    """One stage: a session whose inputs are what `enter`s it and its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    timed: tuple[str, ...] = ()
    """Those of `enter` that are cut into windows, by their columns on the last axis."""
    weights: tuple[str, ...]
    left: int = Field(0, ge=0)
    right: int = Field(0, ge=0)
    """Columns before and after a window that what leaves depends on."""
    rate: int = Field(1, ge=1)
    """Columns that leave for each that enters."""

    @property
    def file_name(self) -> str:
        """The name of the stage's file."""
        return f"{self.name}.onnx"


class Manifest(BaseModel):
    """The stages in order: `whole`, or `text`, perhaps `flow`, `decoder`, perhaps `waveform`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[StageManifest, ...] = Field(min_length=1, max_length=4)
    durations: str = ""
    """The tensor with the number of frames of each text id, among those that leave the first stage;
    empty where there is none for certain."""
    portable: StageManifest | None = None
    """The waveform once more, in operators of ONNX alone, which other runtimes can read."""
