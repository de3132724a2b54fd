"""What a prepared graph is made of, as it is stored beside its stages."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

BLOB = "recipe.json"
FLOW = "flow"
"""The stage that makes the decoder's frames from those of the text; the only one that may."""


class StageRecipe(BaseModel):
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
    def blob(self) -> str:
        """The name of the stage's file."""
        return f"{self.name}.onnx"


class Recipe(BaseModel):
    """The stages in order: `whole`, or `text`, perhaps `flow`, `decoder`, perhaps `waveform`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[StageRecipe, ...] = Field(min_length=1, max_length=4)
