"""Types of the fields of requests: numbers that come as text, words in any case.

Forms, query parameters and templates of automations have no numbers, and people write `MP3`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_NUMBER = r"\s*[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})\s*"
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)


class NumberOrText:
    """Marks a number that may also come as text: `Annotated[float, NumberOrText()]`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_number, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        text = {"type": "string", "pattern": f"^{_NUMBER}$"}
        return {"anyOf": [handler(schema["schema"]), text]}


def _number(value: Any) -> Any:
    """Return the number in a text; what is none, as it is: the field's own type refuses it."""
    if not isinstance(value, str) or not re.fullmatch(_NUMBER, value, re.ASCII):
        return value
    return int(value) if _WHOLE.fullmatch(value) else float(value)


def in_any_case(names: Mapping[str, str]) -> Callable[[Any], str]:
    """Return a validator that gives what a word stands for; `names` are in small letters."""

    def find(value: Any) -> str:
        known = names.get(value.strip().lower()) if isinstance(value, str) else None
        if known is None:
            words = ", ".join(map(repr, dict.fromkeys(names.values())))
            raise PydanticCustomError("one_of", "Input should be one of {words}", {"words": words})
        return known

    return find


def flag(value: Any) -> Any:
    """Return the truth value that a text says; what is none, as it is."""
    return _FLAGS.get(value.strip().lower(), value) if isinstance(value, str) else value
