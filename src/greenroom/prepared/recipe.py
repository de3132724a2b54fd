"""What a prepared graph is made of, as it is stored beside its stages."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

BLOB = "recipe.json"


class StageRecipe(BaseModel):
    """One stage: a session whose inputs are what `enter`s it and its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    enter: tuple[str, ...]
    leave: tuple[str, ...]
    timed: tuple[str, ...] = ()
    """Those of `enter` with a column for each frame, on the last axis."""
    weights: tuple[str, ...]
    left: int = Field(0, ge=0)
    right: int = Field(0, ge=0)
    """Frames before and after a window that its columns depend on."""
    rate: int = Field(1, ge=1)
    """Columns that leave for each frame that enters."""

    @property
    def blob(self) -> str:
        """The name of the stage's file."""
        return f"{self.name}.onnx"


class Recipe(BaseModel):
    """The stages in order: `whole`, or `text`, perhaps `flow`, and `decoder`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[StageRecipe, ...] = Field(min_length=1, max_length=3)
