"""The HTTP application: routers over one `Synthesis`, one shape of errors, one place for keys.

To add routes, write `router(synthesis: Synthesis) -> APIRouter` in a module of its own, include it
in `create_app`, and say who may call it by one of the lists of `Access`::

    app.include_router(ollama.router(synthesis), dependencies=access.administering)

`access.looking` is for discovery, `access.speaking` for a key with the role `speak`, and no list at
all for what anybody may ask, such as health. Inside a route `request.state.caller.name` is who
asks and `request.state.request_id` names the request. Raise errors of the tree
(`greenroom.errors`), a bad field as `worker.errors.FieldError`; `errors.py` answers them by the
worker's table. There is no lifespan: what has to be started and stopped belongs to
`greenroom.worker.app.Worker`.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from greenroom.worker.admission import Admission
from greenroom.worker.auth import Keys
from greenroom.worker.http import (
    activity,
    captions,
    events,
    health,
    models,
    ollama,
    openai,
    piper,
    triton,
)
from greenroom.worker.http.auth import Access
from greenroom.worker.http.body import BodySizeLimit, limit_for
from greenroom.worker.http.cors import add_cors
from greenroom.worker.http.errors import add_error_handlers
from greenroom.worker.http.middleware import ConcurrencyLimit, RequestIds, TrailingSlashes
from greenroom.worker.http.openapi import REFUSALS, describe
from greenroom.worker.http.page import add_page
from greenroom.worker.http.piper import PiperRequest
from greenroom.worker.http.speech_request import SpeechRequest
from greenroom.worker.http.upkeep import PullBody, Upkeep
from greenroom.worker.http.voice_names import VoiceNames
from greenroom.worker.synthesis import Synthesis

Application = FastAPI
"""What `create_app` returns, for those who have nothing else to do with HTTP."""


def create_app(
    synthesis: Synthesis, keys: Keys, admission: Admission, upkeep: Upkeep | None = None
) -> FastAPI:
    """Return the application; raises `ConfigError` for settings that cannot work.

    The pages with which FastAPI shows its API are off: they need the internet.
    """
    access = Access(keys, synthesis.settings)
    names = VoiceNames(synthesis.names)
    app = FastAPI(
        title="Greenroom",
        version=synthesis.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=REFUSALS,
    )
    app.add_middleware(BodySizeLimit, limit=limit_for(synthesis.settings.max_text_chars))
    app.add_middleware(ConcurrencyLimit, keys=keys, admission=admission)
    if synthesis.settings.cors_origins:
        add_cors(app, synthesis.settings.cors_origins)
    app.add_middleware(TrailingSlashes)
    app.add_middleware(RequestIds)
    add_error_handlers(app)
    app.include_router(openai.speech_router(synthesis, names), dependencies=access.speaking)
    app.include_router(captions.router(synthesis, names), dependencies=access.speaking)
    app.include_router(piper.router(synthesis, names), dependencies=access.speaking)
    app.include_router(openai.discovery_router(synthesis, names), dependencies=access.looking)
    _add_watching(app, synthesis, access, admission)
    if upkeep is not None:
        made = upkeep.router(synthesis.patience)
        app.include_router(made, dependencies=access.administering)
    public = frozenset({"discovery"} if synthesis.settings.public_discovery else ())
    describe(
        app,
        [
            SpeechRequest,
            captions.CaptionedSpeechRequest,
            PiperRequest,
            *models.BODIES,
            ollama.GenerateBody,
            *([PullBody] if upkeep is not None else []),
        ],
        has_keys=bool(keys),
        public_tags=public,
    )
    return app


def _add_watching(app: FastAPI, synthesis: Synthesis, access: Access, admission: Admission) -> None:
    """Add what operators use: a look needs a key, a change one with the role `admin`.

    What describes the worker to anybody is discovery, the document of the routes too.
    """

    @app.get("/openapi.json", dependencies=access.looking, include_in_schema=False)
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    looking, reading, changing = access.looking, access.speaking, access.administering
    app.include_router(health.router(synthesis, access.may_look, reading=reading))
    app.include_router(models.router(synthesis, changing=changing, speaking=reading))
    for routes in (ollama.router, triton.router):
        made = routes(synthesis, looking=looking, reading=reading, changing=changing)
        app.include_router(made)
    app.include_router(events.router(synthesis, admission.followers, reading=reading))
    app.include_router(activity.router(synthesis, reading=reading, changing=changing))
    add_page(app)
