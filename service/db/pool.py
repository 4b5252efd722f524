"""A pool of database connections: the most recently used first, callers served in the order of their arrival.

What a stock pool does not do (docs/decisions/0009-own-connection-pool.md):

- A failed connect fails the callers that waited when it began if no connection works, so that a database that is away
  is noticed in milliseconds; while others work, callers wait for one of those, and connecting is tried again.
- A silent peer is never waited for: connects and pings have a time limit, and closing takes no round trip.
- After one connection was found lost, all that were made before that moment are replaced.
- Connections that are silent within a statement do not keep callers from new ones. Nothing tells such a connection from
  a slow statement, so a single further connection shows first that the database answers.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, Literal, Protocol, TypeVar, get_args

from service.db.driver_errors import DRIVER_ERRORS, TROUBLES, Trouble, trouble_of
from service.outage import Outage

C = TypeVar("C")

Cause = Literal["age", "lost", "surplus", "shutdown"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
"""Why a connection was closed; `lost` includes those that were doubted after another one was lost."""

_CONNECTS_AT_ONCE = 3
_SLOW_CONNECT = 2.0
"""An attempt to connect that takes longer does not keep the pool from trying another one (s)."""
_CONNECT_AGAIN = 0.25
"""The pause after a failed connect while other connections work, or may yet be made (s)."""
_UNUSED = 60.0
"""An idle connection that was not used for so long is closed when another becomes idle (s): batching rarely needs more
than three at once, and a server has few to give to many processes."""
_STALLED = 1.0
"""A connection in use for longer may be silent: idle ones are pinged, and further ones opened for callers (s)."""


class PoolTimeout(Exception):
    """No connection became free in time."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The number of connections and their lifetimes; times in seconds."""

    size: int = 10
    max_overflow: int = 5
    timeout: float = 10.0
    """The longest that a request waits for a connection before it fails with UNAVAILABLE."""
    recycle: float = 240.0
    """The age at which a connection is replaced: below the five minutes after which Neon suspends an idle compute."""
    ping_after: float = 30.0
    """A connection that was idle for longer is checked with a round trip before it is used."""
    prepare: Literal["auto", "always", "never"] = "auto"
    """Prepare statements on the server; `auto`: unless a pooler stands before it."""
    statement_timeout: float = 35.0
    """The longest that a statement may run, even if its caller still waits."""


class Connector(Protocol[C]):
    """Makes, checks and closes the connections of a pool."""

    async def connect(self) -> C:
        """Open a connection, within a time limit."""

    def is_usable(self, connection: C) -> bool:
        """Check an idle connection without a round trip."""

    async def ping(self, connection: C) -> None:
        """Check an idle connection with a round trip, within a time limit. Raises the driver's error."""

    def close(self, connection: C) -> None:
        """Close a connection without waiting for its peer."""


class Pooled(Generic[C]):
    """A connection of the pool, on loan or idle."""

    __slots__ = ("born", "connection", "is_broken", "since")

    def __init__(self, connection: C) -> None:
        self.connection = connection
        self.born = self.since = monotonic()  # `since`: when it was lent or became idle
        self.is_broken = False


@dataclass(slots=True)
class PoolCounts:
    """Counts of events in a pool, for the metrics."""

    waits: int = 0
    """Requests that had to wait for a connection."""
    timeouts: int = 0
    """Requests that got no connection in time."""
    opened: int = 0
    connect_failures: int = 0
    closed: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    troubles: dict[Trouble, int] = field(default_factory=lambda: dict.fromkeys(TROUBLES, 0))
    """Failed connects, pings and statements, by what is wrong with the database."""

    def add_trouble(self, error: BaseException) -> None:
        """Count a failed connect or statement."""
        if trouble := trouble_of(error):
            self.troubles[trouble] += 1


class Pool(Generic[C]):
    """At most `size + max_overflow` connections, of which up to `size` are kept while idle.

    While callers wait, there may be further connections in place of stalled ones: a single one as long as no statement
    succeeds, then up to as many as are stalled. The limit for all together is doubled then.
    """

    def __init__(self, connector: Connector[C], settings: PoolSettings) -> None:
        self.limit = settings.size + settings.max_overflow
        self.counts = PoolCounts()
        self.outage = Outage("database is away", "database is back")
        """On after the database could not be reached or fell silent, until the next success."""
        self.exhausted = Outage("database connections are all in use", "database connections are free again")
        """On after a call got no connection in time, until one need not wait."""
        self._connector = connector
        self._settings = settings
        self._idle: deque[Pooled[C]] = deque()  # the most recently used at the right
        self._lent: set[Pooled[C]] = set()
        self._waiting: dict[asyncio.Future[Pooled[C]], float] = {}  # in order of arrival, and when that was
        self._connecting: dict[asyncio.Task[C], float] = {}  # and since when
        self._pause: asyncio.TimerHandle | None = None  # after a failed connect
        self._stall_timer: asyncio.TimerHandle | None = None
        self._answered = float("-inf")  # when a connection came back that was not stalled
        self._distrusted = float("-inf")  # connections made before are not used again
        self._is_closed = False

    @property
    def in_use(self) -> int:
        """The number of connections on loan."""
        return len(self._lent)

    @property
    def open(self) -> int:
        """The number of connections on loan or idle."""
        return len(self._lent) + len(self._idle)

    async def acquire(self) -> Pooled[C]:
        """Lend a connection. Raises PoolTimeout, or what the attempt to connect raised if no connection works."""
        deadline = asyncio.get_running_loop().time() + self._settings.timeout
        while True:
            if pooled := self._take_idle():
                self.exhausted.end()
            else:
                pooled = await self._wait(deadline)
            idle_since, pooled.since = pooled.since, monotonic()
            if not self._is_doubtful(pooled, idle_since):
                return pooled
            if await self._answers(pooled):
                pooled.since = monotonic()
                return pooled

    def release(self, pooled: Pooled[C]) -> None:
        """Take a connection back. One that is broken, distrusted or too old is closed."""
        if not pooled.is_broken and (now := monotonic()) - pooled.since < _STALLED:
            self._answered = now
        self._put_back(pooled)

    def _put_back(self, pooled: Pooled[C]) -> None:
        self._lent.discard(pooled)
        if pooled.is_broken or self._is_stale(pooled):
            self._close(pooled.connection, "lost" if pooled.is_broken else self._cause(pooled))
            self._connect_for_waiting()
        else:
            self._offer(pooled)

    def distrust(self) -> None:
        """Use no connection again that was made before now."""
        self._distrusted = monotonic()
        while self._idle:
            self._close(self._idle.pop().connection, "shutdown" if self._is_closed else "lost")

    def close(self) -> list[Pooled[C]]:
        """Close idle connections at once, and those on loan, which are returned, when they are released."""
        self._is_closed = True
        self.distrust()
        for timer in (self._pause, self._stall_timer):
            if timer:
                timer.cancel()
        for task in self._connecting:
            task.cancel()
        self._fail_waiting(PoolTimeout("the pool is closed"), monotonic())
        return list(self._lent)

    @property
    def is_database_up(self) -> bool:
        """False after the database could not be reached or fell silent, until the next success."""
        return not self.outage.is_on

    def _take_idle(self) -> Pooled[C] | None:
        while self._idle:
            pooled = self._idle.pop()
            if not self._is_stale(pooled) and self._connector.is_usable(pooled.connection):
                self._lent.add(pooled)
                return pooled
            self._close(pooled.connection, self._cause(pooled))
        return None

    def _is_stale(self, pooled: Pooled[C]) -> bool:
        is_old = monotonic() - pooled.born > self._settings.recycle
        return is_old or pooled.born <= self._distrusted or self._is_closed

    def _cause(self, pooled: Pooled[C]) -> Cause:
        """Why a connection that is not broken is not used again."""
        if self._is_closed:
            return "shutdown"
        return "age" if monotonic() - pooled.born > self._settings.recycle else "lost"

    def _close(self, connection: C, cause: Cause) -> None:
        self.counts.closed[cause] += 1
        self._connector.close(connection)

    def _is_doubtful(self, pooled: Pooled[C], idle_since: float) -> bool:
        """True if the connection may have been lost without a word while it was idle."""
        idle = pooled.since - idle_since
        if idle <= _STALLED or idle > self._settings.ping_after:
            return idle > self._settings.ping_after
        return self._stalled(pooled.since) > 0

    def _stalled(self, now: float) -> int:
        """The number of connections whose statement has run for long."""
        return sum(now - pooled.since >= _STALLED for pooled in self._lent)

    async def _answers(self, pooled: Pooled[C]) -> bool:
        try:
            await self._connector.ping(pooled.connection)
        except BaseException as error:
            pooled.is_broken = True
            self.release(pooled)
            if not isinstance(error, DRIVER_ERRORS):
                raise
            self.outage.begin(error)
            self.counts.troubles["silent"] += 1  # one that was closed is noticed without a ping
            self.distrust()
            return False
        return True

    async def _wait(self, deadline: float) -> Pooled[C]:
        if self._is_closed:
            raise PoolTimeout("the pool is closed")
        waiter: asyncio.Future[Pooled[C]] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = monotonic()
        self.counts.waits += 1
        self._connect_for_waiting()
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self._put_back(waiter.result())  # it came at the last moment
            if isinstance(error, TimeoutError):
                self.counts.timeouts += 1
                timeout = PoolTimeout(f"no connection became free within {self._settings.timeout} s")
                if not self.outage.is_on:
                    self.exhausted.begin(timeout)
                raise timeout from error
            raise
        finally:
            self._waiting.pop(waiter, None)

    def _offer(self, pooled: Pooled[C]) -> None:
        """Lend a connection to the caller that waited longest, or keep it."""
        pooled.since = monotonic()
        while waiter := next(iter(self._waiting), None):
            del self._waiting[waiter]
            if not waiter.done():
                self._lent.add(pooled)
                waiter.set_result(pooled)
                self._connect_for_waiting()
                return
        if len(self._idle) < self._settings.size:
            self._idle.append(pooled)
        else:
            self._close(pooled.connection, "surplus")
        while self._idle[0].since < pooled.since - _UNUSED:
            self._close(self._idle.popleft().connection, "surplus")

    def _connect_for_waiting(self) -> None:
        """Start to connect for callers that wait, as far as the limits allow."""
        if self._is_closed or not self._waiting or (self._pause and self._lent):
            return
        now = monotonic()
        at_once = sum(now - since < _SLOW_CONNECT for since in self._connecting.values())
        wanted = min(len(self._waiting), _CONNECTS_AT_ONCE) - at_once
        room = self._room(now)
        for _ in range(min(wanted, room)):
            task = asyncio.create_task(self._connector.connect())
            self._connecting[task] = now
            task.add_done_callback(self._connected)
            asyncio.get_running_loop().call_later(_SLOW_CONNECT, self._connect_for_waiting)
        if wanted > room and not self._stall_timer:
            next_stall = min(
                (_STALLED - used for each in self._lent if (used := now - each.since) < _STALLED), default=_STALLED
            )
            self._stall_timer = asyncio.get_running_loop().call_later(next_stall, self._on_stall)

    def _on_stall(self) -> None:
        self._stall_timer = None
        self._connect_for_waiting()

    def _room(self, now: float) -> int:
        """The number of connections that may yet be opened."""
        limit = self._settings.size + self._settings.max_overflow
        slow = sum(now - since >= _SLOW_CONNECT for since in self._connecting.values())
        opened = len(self._idle) + len(self._lent) + len(self._connecting)
        room = limit - (opened - slow)
        if room <= 0 and (stalled := self._stalled(now)):
            working = opened - slow - stalled
            room = (limit if now - self._answered < _STALLED else 1) - working
        return min(room, 2 * limit - opened)

    def _connected(self, task: "asyncio.Task[C]") -> None:
        since = self._connecting.pop(task)
        if task.cancelled():
            return
        if error := task.exception():
            self.counts.connect_failures += 1
            self.counts.add_trouble(error)
            self.outage.begin(error)
            self._connect_failed(error, since)
            return
        self.counts.opened += 1
        self.outage.end()
        if self._is_closed or self._room(monotonic()) <= 0:
            self._close(task.result(), "shutdown" if self._is_closed else "surplus")
        else:
            self._offer(Pooled(task.result()))
            self._connect_for_waiting()

    def _connect_failed(self, error: BaseException, since: float) -> None:
        if not (self._idle or self._lent or self._connecting):
            self._fail_waiting(error, since)
            self._connect_for_waiting()
        elif not self._pause and not self._is_closed:
            self._pause = asyncio.get_running_loop().call_later(_CONNECT_AGAIN, self._end_pause, error, since)

    def _end_pause(self, error: BaseException, since: float) -> None:
        self._pause = None
        if not (self._idle or self._lent):
            self._fail_waiting(error, since)
        self._connect_for_waiting()

    def _fail_waiting(self, error: BaseException, since: float) -> None:
        """Fail the callers that waited then already. For those who came later the attempt may have begun too early."""
        for waiter in [waiter for waiter, arrived in self._waiting.items() if arrived <= since]:
            del self._waiting[waiter]
            if not waiter.done():
                waiter.set_exception(error)
