"""The adapter's door: whatever an engine returns, raises or does, the others load and speak."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from fuzz import engine
from fuzz.engine import CHUNK_JUNK, FOUND_JUNK, STEPS, Plan, Tame, TameFinder, wild
from fuzz.junk import ERRORS, VALUES
from fuzz.watchdog import Watchdog
from greenroom import AudioFrame, Catalog, ModelManager, ModelManagerError, ModelSpec, TTSAdapter
from greenroom.concurrency.threads import running_calls

TEXT = "One sentence. And one more."
WHOLE = 2 * engine.CHUNKS * 5
"""The frames of `TEXT`, spoken by a tame engine: five for each chunk of 100 ms."""

LOAD_LIMIT_MS = 1_000
DRAIN_MS = 100
SHUTDOWN_S = DRAIN_MS / 1000 + 15.0
ANSWER_S = 8.0
"""Nobody waits longer than this: the limits of a load, of its clean-up, and a busy machine."""

MANNERS = ("plain", "plain", "cancel", "drop", "stop", "leave", "unload", "drain", "reload")
_FINDING = {"discover", "check_options", "check_spec", "next_form", "preparation"}
"""The steps that a search for models takes."""

OWNERS = ("None", "text", "unhashable", "touchy", "surrogate", "text that lies", "nan")


class AdapterDoor:
    """A manager with tame models and a wild one; each input is a plan for the wild one."""

    name = "adapter"
    about = "what an engine may return, raise or do at any step"

    def open(self, watchdog: Watchdog) -> None:
        """Leave what is there now out of every later search for leaks."""
        self._watchdog = watchdog
        gc.collect()
        gc.freeze()

    def close(self) -> None:
        """Let all be collected again."""
        gc.unfreeze()

    def draw(self, dice: random.Random) -> Plan:
        """Return a plan of one to three steps, and how the callers behave."""
        steps = {step: _doing(dice, step) for step in dice.sample(STEPS, dice.choice((1, 1, 2, 3)))}
        steps["callers"] = dice.choice(MANNERS)
        if dice.random() < 0.1:
            steps["owner"] = dice.choice(OWNERS)
        return tuple(sorted(steps.items()))

    def simpler(self, given: Plan) -> Iterator[Plan]:
        """Yield the plan with a step less, then with plain callers."""
        for number, (step, doing) in enumerate(given):
            if step != "callers":
                yield (*given[:number], *given[number + 1 :])
            elif doing != "plain":
                yield tuple(sorted({**dict(given), "callers": "plain"}.items()))

    def count(self, given: Plan) -> int:
        """Return 1."""
        return 1

    def attempt(self, given: Plan) -> list[str]:
        """Find, load, speak, unload and shut down; return what was broken."""
        faults = _discovering(given) if _FINDING.intersection(dict(given)) else []
        living: weakref.WeakSet[TTSAdapter] = weakref.WeakSet()
        visit = Visit(given, living)
        with _unseen(faults):
            _run(visit.run, faults, self._watchdog)
        faults += visit.faults
        if visit.manager is not None and not faults:
            faults += _leaks(visit, living)
        return faults


def _doing(dice: random.Random, step: str) -> str:
    if step in engine.HANGING and dice.random() < 0.04:
        return "hang"
    if dice.random() < 0.5:
        return f"raise {dice.choice(list(ERRORS))}"
    known = FOUND_JUNK if step == "discover" else CHUNK_JUNK if step[-1].isdigit() else VALUES
    return f"give {dice.choice(list(known if dice.random() < 0.7 else VALUES))}"


def _discovering(given: Plan) -> list[str]:
    """A package that finds rubbish hides nobody else's models."""
    try:
        found = Catalog.discover("", adapters=[wild(given, weakref.WeakSet()), TameFinder])
        names = [spec.model_id for spec in found]
        "".join(names).encode()
    except KeyboardInterrupt:
        return []  # in the main thread it cannot be told from somebody's Ctrl-C
    except (Exception, SystemExit, GeneratorExit) as error:  # noqa: BLE001 - whatever comes out is a fault
        return [f"discovering raised {_named(error)}"]
    return [] if "found" in names else ["a model of another adapter was not found"]


class Visit:
    """One manager from its start to its end, with the callers of one plan."""

    def __init__(self, plan: Plan, living: weakref.WeakSet[TTSAdapter]) -> None:
        self.plan = plan
        self.faults: list[str] = []
        self.manager: ModelManager | None = None
        steps = dict(plan)
        self._manner = steps["callers"]
        self._owner: Any = None if "owner" not in steps else engine.GIVEN[steps["owner"]]()
        specs = [ModelSpec("good", Tame), ModelSpec("bad", wild(plan, living))]
        self._catalog = Catalog([*specs, ModelSpec("canary", Tame)])

    async def run(self) -> None:
        """Do it all; what was broken is in `faults`."""
        manager = self.manager = ModelManager(
            catalog=self._catalog,
            default_model_id="good",
            min_residency_ms=0,
            load_timeout_ms=LOAD_LIMIT_MS,
            synthesis_timeout_ms=LOAD_LIMIT_MS,
            acquire_timeout_ms=5 * LOAD_LIMIT_MS,
            memory_budget_mb=1_000,
        )
        await self._soon("starting", manager.initialize())
        calls = [self._call(manager), self._call(manager)]
        if self._manner == "cancel":
            calls.append(self._cancelled(manager))
        canary = self._speaks(manager, "canary")
        await asyncio.gather(*calls, canary)
        self._look(manager)
        if self._manner in ("unload", "drain", "reload"):
            unloading = manager.unload("bad", drain=self._manner == "drain")
            await self._soon("unloading", unloading, allowed=True)
        if self._manner == "reload":
            await self._call(manager)
        await self._speaks(manager, "good")
        if await self._quiet(manager):
            await self._speaks(manager, "canary")
        await self._soon("shutdown", manager.shutdown(drain_timeout_ms=DRAIN_MS), limit=SHUTDOWN_S)

    async def _call(self, manager: ModelManager) -> None:
        """Take a reference of the wild model, speak with it, and give it back."""
        adapter = await self._soon("loading", manager.load("bad", owner=self._owner), allowed=True)
        if adapter is None:
            return
        try:
            await self._soon("speaking", self._listen(adapter), allowed=True)
        finally:
            del adapter
            if self._manner != "leave":
                await self._soon("releasing", manager.release("bad", owner=self._owner))
        if self._manner == "leave":  # its speech goes on after its reference
            await self._soon("releasing", manager.release("bad", owner=self._owner))

    async def _listen(self, adapter: TTSAdapter) -> None:
        stream = adapter.synthesize_stream(TEXT)
        del adapter
        if self._manner == "drop":
            with contextlib.suppress(StopAsyncIteration):
                await anext(stream)
            return
        async for frame in stream:
            if not isinstance(frame, AudioFrame) or len(frame.pcm) > 1_920:
                self.faults.append(f"a frame is {type(frame).__name__}")
            if self._manner == "stop":
                stream.stop()

    async def _cancelled(self, manager: ModelManager) -> None:
        call = asyncio.create_task(manager.load("bad", owner="hasty"))
        await asyncio.sleep(0.001)
        if not call.cancel():
            with contextlib.suppress(ModelManagerError):
                await call
                await self._soon("releasing", manager.release("bad", owner="hasty"))
            return
        await asyncio.wait([call], timeout=ANSWER_S)
        if not call.done():
            self.faults.append("a load that was cancelled goes on waiting")

    async def _speaks(self, manager: ModelManager, model_id: str) -> None:
        """A model whose engine is tame loads and speaks, whole, whatever another does."""

        async def speak() -> int:
            async with manager.lease(model_id, owner="listener") as lease:
                return len([frame async for frame in lease.synthesize_stream(TEXT)])

        heard = await self._soon(f"speaking with the {model_id} model", speak())
        if heard not in (None, WHOLE):
            self.faults.append(f"the {model_id} model spoke {heard} frames of {WHOLE}")

    async def _soon(
        self, what: str, answer: Awaitable[Any], *, limit: float = ANSWER_S, allowed: bool = False
    ) -> Any:
        """Return the answer; it comes in time, and an error is one of the tree."""
        task = asyncio.ensure_future(answer)
        done, _ = await asyncio.wait([task], timeout=limit)
        if not done:
            self.faults.append(f"{what} did not end")
            task.cancel()
            return None
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.faults.append(f"{what} was cancelled by nobody")
        elif error is None:
            return task.result()
        elif isinstance(error, ModelManagerError):
            self._check_text(what, error)
            if not allowed:
                self.faults.append(f"{what} was refused: {_named(error)}")
        elif not (self._owner is not None and isinstance(error, TypeError)):
            self.faults.append(f"{what} raised {_named(error)}")
        del task, error, done
        return None

    def _check_text(self, what: str, error: ModelManagerError) -> None:
        try:
            str(error).encode()
        except Exception as raised:  # noqa: BLE001 - an error that cannot be shown is a fault
            self.faults.append(f"{what}: the text of {type(error).__name__}: {_named(raised)}")

    def _look(self, manager: ModelManager) -> None:
        """What is there to look at can be looked at, and written down."""
        for what, look in (
            ("statistics", manager.statistics),
            ("residents", manager.list_resident),
            ("explain", lambda: str(manager.explain("bad"))),
            ("repr", lambda: repr(manager)),
        ):
            try:
                str(look()).encode(errors="surrogatepass")
            except Exception as error:  # noqa: BLE001 - nothing may be raised here
                self.faults.append(f"{what} raised {_named(error)}")

    async def _quiet(self, manager: ModelManager) -> bool:
        """Nothing is held, speaks or waits once everybody has left; hanging threads may end."""
        gc.collect(0)
        for _ in range(600):
            found = manager.statistics()
            held = [r for r in found.residents if r.refcount or r.streams]
            loading = [r for r in found.residents if r.state in ("loading", "warming")]
            if not held and not loading and not found.waiting:
                return True
            await asyncio.sleep(0.01)
        for one in (*held, *loading):
            what = f"{one.refcount} references, {one.streams} streams"
            self.faults.append(f"{one.model_id} is {one.state} with {what} after all have left")
        if found.waiting:
            self.faults.append(f"{found.waiting} callers wait after all have left")
        return False


def _run(visit: Callable[[], Awaitable[None]], faults: list[str], watchdog: Watchdog) -> None:
    """Run to the end on a loop of its own; tasks that are left, or fail unseen, are faults."""
    loop = asyncio.new_event_loop()

    def unseen(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        shown = "" if error is None else f": {_named(error)}"
        faults.append(f"unseen: {context.get('message')}{shown}")

    async def whole() -> None:
        ticker = asyncio.create_task(watchdog.follow())
        try:
            await visit()
        finally:
            ticker.cancel()
            await asyncio.wait([ticker])
            faults.extend(await _left(asyncio.all_tasks() - {asyncio.current_task()}))

    loop.set_exception_handler(unseen)
    running = loop.create_task(whole())
    try:
        loop.run_until_complete(running)
    except Exception as error:  # noqa: BLE001 - the visit expects all that is allowed
        faults.append(f"the visit ended with {_named(error)}")
    except (KeyboardInterrupt, SystemExit) as error:
        faults.append(f"the loop was left with {type(error).__name__}")
        running.cancel()
        loop.run_until_complete(asyncio.wait([running], timeout=ANSWER_S))
    finally:
        loop.close()


async def _left(tasks: set[asyncio.Task[Any]]) -> list[str]:
    """Return the tasks that do not end by themselves, and end them."""
    if not tasks:
        return []
    _, left = await asyncio.wait(tasks, timeout=1.0)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1.0)
    return sorted(f"the task {task.get_name()!r} was left" for task in left)


def _leaks(visit: Visit, living: weakref.WeakSet[TTSAdapter]) -> list[str]:
    """No object of the engine outlives the manager's last use of it."""
    for _ in range(300):
        if not running_calls():
            break
        threading.Event().wait(0.01)
    gc.collect()
    return [f"{len(living)} objects of the engine are left"] if living else []


@contextlib.contextmanager
def _unseen(faults: list[str]) -> Iterator[None]:
    """Make what only shows in a log, or in a thread, a fault."""
    handler = _Critical(faults)
    loggers = [logging.getLogger("greenroom"), logging.getLogger("asyncio")]
    before = threading.excepthook

    def died(args: threading.ExceptHookArgs) -> None:
        faults.append(f"a thread died of {args.exc_type.__name__}")

    threading.excepthook = died
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
        forgotten = {str(w.message) for w in warned if "never awaited" in str(w.message)}
        faults += [f"unseen: {text}" for text in forgotten]
    finally:
        threading.excepthook = before
        for logger in loggers:
            logger.removeHandler(handler)


class _Critical(logging.Handler):
    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.CRITICAL)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        shown = "" if error is None else f": {_named(error)}"
        self._faults.append(f"critical: {record.getMessage()}{shown}")


def _named(error: BaseException) -> str:
    """Return the class and the text of an error, whatever its own methods do."""
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # noqa: BLE001 - that is what some of them are for
        text = "(without text)"
    return f"{type(error).__name__}: {text}"
