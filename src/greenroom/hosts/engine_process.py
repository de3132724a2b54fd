"""One engine's process, as the manager sees it: called over connections, watched until its end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from greenroom.catalog.devices import CPU, gpu_of
from greenroom.concurrency.cores import CORES, Loan
from greenroom.hosts.engine_main import BORROW, GIVEN_BACK
from greenroom.hosts.fork_server import STATUS
from greenroom.hosts.launcher import Given, Launcher, LaunchError
from greenroom.hosts.lifeline import Lifeline
from greenroom.hosts.wire import ClosedError, Connection, LateError, Reply, WireError
from greenroom.memory.usage import Usage, proportional_bytes_of, usage_of, usage_on
from greenroom.untrusted.logs import safe_logger
from greenroom.untrusted.printable import one_line

logger = safe_logger(__name__)

_KEPT_CONNECTIONS = 32
"""Each is a thread of the process's that waits."""

_END_LIMIT_S = 2.0
"""How long a process that is asked to end, or was killed, may take; the kernel ends it in 10 ms."""

_ANSWER_LIMIT_S = 1.0
"""How long one that has no model may take to say that it is there."""

_LOAN_S = 1.0
"""How long it may keep a core that others want: as long as a step that takes long keeps its own."""

_LAST_BYTES = 4_096
"""So much of what it printed last is kept, to tell why it ended."""

_LINES_A_SECOND = 10
"""Of what it prints, so much goes to the log: an engine may print without end."""


ENDINGS = ("signal", "exit", "unknown", "time_limit", "garbled", "killed")
"""How a process ends that has models: by a signal, by itself, in a way that nobody has seen; or
killed, as it answered too late, or with what is no answer, or for another reason."""


class ProcessEndedError(Exception):
    """The process has ended, or was ended; the text says how."""


class EngineProcess:
    """A process with models of one engine. All methods block; any thread may call them."""

    def __init__(
        self,
        launcher: Launcher,
        name: str,
        *,
        adapter: str,
        restarts: int,
        offline: bool,
        when_ended: Callable[[EngineProcess], None],
    ) -> None:
        """Start it; raises `LaunchError`. `when_ended` is called once, in a thread, at its end."""
        self.name = name
        self.adapter = adapter
        """The name of its engine's adapter."""
        self.restarts = restarts
        """How many processes of this name have crashed before it."""
        self.since = time.monotonic()
        self.models: set[int] = set()
        """Numbers of the models in it; who changes it sees to it that no two threads do."""
        self.is_shared = False
        """Whether it has ever had a second model, beside the first or after it."""
        self._when_ended = when_ended
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._why = ""
        """Why it was killed, if it was."""
        self._said: deque[bytes] = deque()
        self._cores_lock = threading.Lock()
        self._loans: deque[Loan] | None = deque()
        """The cores that it was lent and has not given back; `None` once it is lent no more."""
        self._given_back = 0
        """How many cores it has given back in its life, as far as it has said so."""
        self.borrows = False
        """Whether it has ever asked for a core, so that it has a use for one."""
        self._ended = threading.Event()
        self._let_go = contextlib.ExitStack()
        """Closes what this process holds of it."""
        self.ending = ""
        """How it ended, once it has."""
        self.ending_kind = "killed"
        """The same as one of `ENDINGS`, once it has."""
        try:
            with contextlib.ExitStack() as given_away:
                given = self._descriptors(given_away)
                launched = launcher.launch(given, name=name, offline=offline)
            self.pid = launched.pid
            self._end = launched.ended
            self._let_go.callback(os.close, self._end)
            self._begin_watch()
        except OSError as error:
            self._let_go.close()
            raise LaunchError(f"no descriptor is left ({error})") from None
        except BaseException:
            self._let_go.close()
            raise
        self.baseline = usage_of(self.pid)
        """What it took before its first model; shared with the fork server for the most part."""
        self.growth = 0
        """The anonymous bytes beyond the baseline, as `growth_bytes` found them last."""
        self.proportional: int | None = None
        """All bytes that it takes, its share of what others have too among them.

        As `growth_bytes` found it last; `None` before.
        """

    def _descriptors(self, given_away: contextlib.ExitStack) -> Given:
        """Make the sockets and pipes; `given_away` closes those that the process gets."""
        lifeline = Lifeline()
        self._let_go.callback(lifeline.close)
        given_away.callback(os.close, lifeline.given)
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._let_go.enter_context(self._control)
        given_away.enter_context(control)
        self._cores, cores = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._let_go.enter_context(self._cores)
        given_away.enter_context(cores)
        self._cores.setblocking(False)
        self._errors, errors = os.pipe()
        self._let_go.callback(os.close, self._errors)
        given_away.callback(os.close, errors)
        self._status, status = os.pipe()
        self._let_go.callback(os.close, self._status)
        given_away.callback(os.close, status)
        return Given(lifeline.given, control.fileno(), cores.fileno(), errors, status)

    def _begin_watch(self) -> None:
        try:
            threading.Thread(
                target=self._watch, name=f"greenroom-watch-{self.name}", daemon=True
            ).start()
        except RuntimeError as error:
            self._kill_group()
            raise LaunchError(f"no thread can be started to watch it ({error})") from None

    def __repr__(self) -> str:
        return f"<EngineProcess {self.name} pid {self.pid} models x{len(self.models)}>"

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor been told to."""
        return not (self._why or self.ending)

    def usage(self, device: str = CPU) -> Usage | None:
        """Return what it takes of a device's memory; `None` where that is not reported.

        Once it has ended, or lingers, that is what it took before its first model: of that nothing
        stays, and what lingers is no model's.
        """
        if gpu_of(device) is None:
            is_in_use = self.is_running and self.models
            return (usage_of(self.pid) if is_in_use else None) or self.baseline
        return usage_on(device, self.pid)

    def growth_bytes(self) -> int:
        """Return the anonymous memory that it takes beyond what it began with.

        Looks at all that it takes, too: reads files.
        """
        usage = usage_of(self.pid) if self.is_running else None
        if usage is None or self.baseline is None:
            return 0
        self.proportional = proportional_bytes_of(self.pid) or self.proportional
        self.growth = max(0, usage.anonymous - self.baseline.anonymous)
        return self.growth

    def join(self, number: int) -> EngineProcess:
        """Count one more model in it; return it."""
        self.models.add(number)
        self.is_shared = True
        return self

    # Calls

    def answers(self) -> bool:
        """Whether it is there and answers at once; one that does not is killed."""
        try:
            self.call("greet", limit=_ANSWER_LIMIT_S)
        except ProcessEndedError:
            return False
        return True

    def call(self, *what: Any, limit: float) -> Reply:
        """Call over a connection that is used for nothing else meanwhile; see `ask`."""
        connection = self.connect()
        reply = self.ask(connection, *what, limit=limit)
        self.give_back(connection)
        return reply

    def connect(self) -> Connection:
        """Return a connection for a sentence; raises `ProcessEndedError`."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        ours, its = socket.socketpair()
        try:
            with its:
                socket.send_fds(self._control, [b"c"], [its.fileno()])
        except OSError:
            ours.close()
            raise self._told_end() from None
        connection = Connection(ours)
        with self._lock:
            self._open.add(connection)
        if self._ended.is_set():  # it has ended meanwhile, and may have shut those it knew
            connection.shut()
        return connection

    def ask(self, connection: Connection, *what: Any, limit: float) -> Reply:
        """Call and wait for the reply, at most `limit` seconds.

        A process that answers too late, or with what is no reply, is killed: nothing it says
        afterwards could be told from the reply. Raises `ProcessEndedError`.
        """
        try:
            return connection.call(*what, limit=limit)
        except WireError as error:
            if isinstance(error, LateError):
                self.kill(str(error), "time_limit")
            elif not isinstance(error, ClosedError):
                self.kill_garbled(error)
            self.drop(connection)
        # Closed: it has ended, or has closed its end, which it may not.
        if not self._ended.wait(_END_LIMIT_S):
            self.kill("it closed its connections", "garbled")
        raise self._told_end()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection on which no sentence is open for the next, unless it was dropped."""
        with self._lock:
            if connection not in self._open:
                return
            if len(self._idle) < _KEPT_CONNECTIONS and not self._ended.is_set():
                self._idle.append(connection)
                return
        self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection, and with it the sentence on it."""
        with self._lock:  # so that `_finish` shuts none whose number is another's by now
            self._open.discard(connection)
            connection.close()

    # Cores

    def lend_core(self) -> bool:
        """Lend it a core if one is idle that nobody waits for; it has it with what it is told next.

        Any number of these are given back together, as `settle_cores` says.
        """
        with self._cores_lock:
            loan = None if self._loans is None else CORES.lend(_LOAN_S)
            if loan is not None and self._loans is not None:
                self._loans.append(loan)
        return loan is not None

    def settle_cores(self, given_back: int) -> None:
        """Take back what the process has given back, of which it has told how much in all its life.

        By the total, as it is told twice: at once, over a connection of its own, and with the reply
        to the next call, which may be read first.
        """
        ended: list[Loan] = []
        with self._cores_lock:
            count = given_back - self._given_back
            self._given_back += max(0, count)
            while self._loans and len(ended) < count:
                ended.append(self._loans.popleft())
        for loan in ended:
            CORES.end_loan(loan)

    # The end

    def end(self) -> None:
        """Have it end by itself, and kill it when it does not."""
        self._why = self._why or "it was no longer needed"
        with self._lock, contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        if not self._ended.wait(_END_LIMIT_S):
            self.kill(self._why)

    def kill(self, why: str, kind: str = "killed") -> None:
        """End it now, whatever it does, and all that it has started; `kind` is of `ENDINGS`."""
        if not self._why:
            self._why, self.ending_kind = why, kind
        with self._lock:
            if not self._ended.is_set():  # else its descriptor and its number may be another's
                self._kill_group()
        self._ended.wait(_END_LIMIT_S)

    def kill_garbled(self, error: WireError) -> ProcessEndedError:
        """End it, as what it said is no reply; return how it has ended."""
        self.kill(f"{error}, as if it had been overwritten", "garbled")
        return self._told_end()

    def _kill_group(self) -> None:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._end, signal.SIGKILL)
            os.killpg(self.pid, signal.SIGKILL)

    def _told_end(self) -> ProcessEndedError:
        self._ended.wait(_END_LIMIT_S)
        return ProcessEndedError(self.ending or "it does not end")

    # The watch

    def _watch(self) -> None:
        """Lend cores, read what is printed, and notice the end."""
        # Poll, here and in `_how`: no other takes a descriptor, of which there may be none.
        selector = selectors.PollSelector()
        selector.register(self._cores, selectors.EVENT_READ, self._lend_asked)
        selector.register(self._errors, selectors.EVENT_READ, self._read)
        selector.register(self._end, selectors.EVENT_READ)
        log = LineLog(self.name, self.pid)
        running = True
        while running:
            for key, _ in selector.select():
                if key.data is None:
                    running = False
                elif not (key.data(log) if key.data == self._read else key.data()):
                    selector.unregister(key.fileobj)
        selector.close()
        self._finish(log)

    def _lend_asked(self) -> bool:
        """Answer what the process says of the cores; false once it says no more.

        Or once it does not read the answers: it is lent none then.
        """
        asked = b""
        try:
            asked = self._cores.recv(256)
            if asked == BORROW:
                self.borrows = True
                self._cores.sendall(bytes([self.lend_core()]))
            elif asked:
                self.settle_cores(GIVEN_BACK.unpack(asked)[0])
        except (OSError, struct.error):
            asked = b""
        if not asked:
            self._take_cores_back()
        return bool(asked)

    def _take_cores_back(self) -> None:
        with self._cores_lock:
            left, self._loans = self._loans, None
        for loan in left or ():
            CORES.end_loan(loan)

    def _read(self, log: LineLog) -> bool:
        """Take what was printed; false once its end of the pipe is closed."""
        said = os.read(self._errors, 65_536)
        self._said.append(said[-_LAST_BYTES:])
        if len(self._said) > 1 and sum(map(len, self._said)) > 2 * _LAST_BYTES:
            self._said = deque([b"".join(self._said)[-_LAST_BYTES:]])
        log.feed(said)
        return bool(said)

    def _finish(self, log: LineLog) -> None:
        """Say how it ended, and end every wait for it."""
        os.set_blocking(self._errors, False)
        with contextlib.suppress(OSError):
            # A few times: what it has started may hold the pipe, and print without end.
            for _ in range(16):
                if not self._read(log):
                    break
        log.flush()
        self.ending = self._why or self._how()
        # Before any call returns: who asks again because of the crash must not find the model that
        # it was in still counted as ready.
        self._when_ended(self)
        with self._lock:
            self._ended.set()
            idle, self._idle = self._idle, []
            self._open.difference_update(idle)
            for connection in idle:
                connection.close()
            # Threads wait on the others, each of which closes its own.
            for connection in self._open:
                connection.shut()
        self._take_cores_back()
        self._let_go.close()

    def _how(self) -> str:
        """Return how it ended by itself: the signal or the exit status, and its last words."""
        ready = selectors.PollSelector()
        ready.register(self._status, selectors.EVENT_READ)
        told = os.read(self._status, STATUS.size) if ready.select(1.0) else b""
        ready.close()
        how, self.ending_kind = "it ended, nobody knows how", "unknown"
        code: int | None = None
        if len(told) == STATUS.size:
            code = os.waitstatus_to_exitcode(STATUS.unpack(told)[0])
        else:
            code = self._adopted_end()
        if code is not None:
            self.ending_kind = "exit" if code >= 0 else "signal"
            how = (
                f"it ended with {code}" if code >= 0 else f"it was killed by {_signal_name(-code)}"
            )
        words = last_words(b"".join(self._said).decode(errors="replace"))
        return f"{how}: {words}" if words else how

    def _adopted_end(self) -> int | None:
        """Return how it ended if it has become this process's own child, which leaves a zombie.

        As where this is the first process of a container, and the fork server has been killed.
        """
        with contextlib.suppress(OSError):
            found = os.waitid(os.P_PIDFD, self._end, os.WEXITED | os.WNOHANG)
            if found is not None:
                exited = found.si_code == os.CLD_EXITED
                return found.si_status if exited else -found.si_status
        return None


class LineLog:
    """Writes what a process prints to the log, line by line, and so many of a second at most."""

    def __init__(self, name: str, pid: int) -> None:
        self._source = f"{name} (pid {pid})"
        self._rest = b""
        self._second = 0
        self._count = 0

    def feed(self, said: bytes) -> None:
        """Log every line that has come to its end."""
        # No more than could be logged: a flood of lines must not keep the manager busy.
        lines, ended, rest = (self._rest + said).rpartition(b"\n")
        self._rest = rest[-_LAST_BYTES:]
        for line in lines.split(b"\n", _LINES_A_SECOND)[:_LINES_A_SECOND] if ended else ():
            self._log(line)

    def flush(self) -> None:
        """Log what has come of the last line."""
        if self._rest:
            self._log(self._rest)

    def _log(self, line: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= _LINES_A_SECOND and line.strip():
            logger.info("%s: %s", self._source, one_line(line.decode(errors="replace"), 500))


def last_words(said: str) -> str:
    """Return the line that tells best why a process ended: the last, or the fault's own.

    After a fault Python writes the stack, which begins with the line that names the fault.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    found = fatal[-1:] or lines[-1:]
    return one_line(found[0], 300) if found else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
