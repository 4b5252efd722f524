"""The only wiring: every part is built here, top to bottom, then started, drained and stopped."""

import asyncio
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import grpc
import structlog
import uuid_utils
from grpc_health.v1 import health_pb2_grpc
from taskwell.v1 import tasks_pb2_grpc

from service.address import Address
from service.auth.jwks import KeysError
from service.config.settings import Settings
from service.db.engine import Database, PoolSettings
from service.db.store import SqlTaskStore
from service.rpc.call_limits import CallLimits
from service.rpc.health import Health
from service.rpc.in_process import InProcess
from service.rpc.interceptor import UNOBSERVED, CallInterceptor, Guard, current_caller
from service.rpc.policy import HEALTH, POLICY, TASK_SERVICE, Access, policy_with_reflection
from service.rpc.rate_limit import RateLimiter
from service.rpc.reflection import add_reflection
from service.rpc.servicer import TaskServicer
from service.rpc.streams import OpenStreams
from service.server.announcements import curl_example, grpcurl_example
from service.server.authentication import Authentication
from service.server.grpc_options import server_options
from service.server.sockets import refuse_taken
from service.server.startup import StartError, cannot_listen
from service.standard_streams import drain
from service.tasks.methods import Tasks
from service.tls.files import CertificateError
from service.tls.grpc_credentials import server_credentials

if TYPE_CHECKING:
    from service.metrics.endpoint import MetricsEndpoint
    from service.server.rest import Rest

_log = structlog.get_logger("app")

# After NOT_SERVING is said, watchers get this long to hear it before their streams are ended (s).
_LAST_WORDS = 0.1


class Service:
    """One server process: build it in a running event loop, `start` it, let it serve, `stop` it.

    The schema must be there; `prepare_schema` sees to that. A service with a `worker` number is one of several on the
    same addresses, which `reserve_addresses` keeps for them.
    """

    def __init__(self, settings: Settings, worker: int | None = None) -> None:
        self._settings = settings
        self._is_alone = worker is None
        self._database = Database(
            settings.database,
            PoolSettings(
                size=settings.database_pool_size,
                max_overflow=settings.database_max_overflow,
                timeout=settings.database_pool_timeout,
                recycle=settings.database_pool_recycle,
                ping_after=settings.database_ping_after,
                prepare=settings.database_prepare,
                # A call that nobody waits for any more may hold its connection only a little longer.
                statement_timeout=settings.max_call_seconds + 5,
            ),
        )
        policy = POLICY
        if settings.reflection != "off":
            policy = policy_with_reflection(Access.OPEN if settings.reflection == "open" else Access.CALLER)
        self._metrics = _metrics_endpoint(settings.metrics, policy, worker) if settings.metrics else None
        observer = self._metrics.metrics if self._metrics else UNOBSERVED
        known_users_only = settings.users == "known"
        self._tasks = Tasks(
            SqlTaskStore(self._database, known_users_only=known_users_only),
            clock=lambda: datetime.now(UTC),
            new_id=lambda: str(uuid_utils.uuid7()),
            known_users_only=known_users_only,
            coalesce=settings.coalesce,
            on_batch=observer.on_batch,
        )
        self._health = Health(("", TASK_SERVICE))
        self._streams = OpenStreams()
        self._authentication = Authentication(settings)
        limits = CallLimits(max_in_flight=settings.max_in_flight, max_seconds=settings.max_call_seconds)
        if self._metrics:
            self._metrics.watch(
                in_flight=lambda: limits.in_flight,
                waiting=self._tasks.waiting,
                connections=self._database.connections_in_use,
            )
        calls = CallInterceptor(
            policy=policy,
            authenticate=self._authentication.authenticate,
            scopes=self._authentication.scopes,
            limits=limits,
            streams=self._streams,
            max_message_bytes=settings.max_message_bytes,
            observer=observer,
            guards=self._guards(),
        )
        self._server = grpc.aio.server(
            interceptors=(calls,),
            # Without the last a second server on the same port would silently take half of the calls.
            options=[*server_options(settings), ("grpc.so_reuseport", int(worker is not None))],
        )
        # REST is a client of the same methods behind the same interceptor, and has no way around it.
        in_process, servicer = InProcess(calls), TaskServicer(self._tasks)
        for server in (self._server, in_process):
            tasks_pb2_grpc.add_TaskServiceServicer_to_server(servicer, cast("grpc.aio.Server", server))
            health_pb2_grpc.add_HealthServicer_to_server(self._health, cast("grpc.aio.Server", server))
        self._rest = _rest(settings, settings.rest, in_process) if settings.rest else None
        if settings.reflection != "off":
            add_reflection(self._server, (TASK_SERVICE, HEALTH))

    async def start(self) -> Address:
        """Accept calls. Answers the address, with the port that was picked.

        Raises StartError if the address is taken, or keys or certificates are not as they should be.
        """
        try:
            await self._authentication.start()
            certificates = self._authentication.certificates()
        except (KeysError, CertificateError) as error:
            raise StartError(str(error)) from error
        wanted = self._settings.grpc
        try:
            if self._is_alone:
                refuse_taken(wanted)
            if certificates is None:
                port = self._server.add_insecure_port(str(wanted))
            else:
                credentials = server_credentials(certificates.pem, certificates.renewed)
                port = self._server.add_secure_port(str(wanted), credentials)
        except (RuntimeError, OSError) as error:
            raise cannot_listen("grpc_address", wanted) from error
        if self._metrics:
            self._start_metrics(self._metrics)
        if self._rest:
            await self._start_rest(self._rest)
        await self._server.start()
        return Address(wanted.host, port)

    @property
    def rest_address(self) -> Address | None:
        """Where REST is served, once it has started; None if it is not."""
        return self._rest.address if self._rest else None

    @property
    def metrics_address(self) -> Address | None:
        """Where metrics are served, once it has started; None if they are not."""
        return self._metrics.address if self._metrics else None

    def _start_metrics(self, endpoint: "MetricsEndpoint") -> None:
        try:
            endpoint.start()
        except OSError as error:
            raise cannot_listen("metrics_address", endpoint.address) from error

    async def _start_rest(self, rest: "Rest") -> None:
        try:
            await rest.start(shares_port=not self._is_alone)
        except CertificateError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise cannot_listen("rest_address", rest.address) from error

    def _guards(self) -> list[Guard]:
        guards: list[Guard] = []
        if peers := self._authentication.peers:
            guards.append(lambda context: peers.require(context.auth_context()))
        # After the peers: who may not speak for a user must not use up what the user may ask.
        if rate := self._settings.rate_limit:
            rates = RateLimiter(rate=rate, burst=self._settings.rate_burst or math.ceil(rate), clock=time.monotonic)
            guards.append(lambda _: rates.take(current_caller().user_id))
        return guards

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING, refuse new calls, let those under way end within `grace` seconds, close the database."""
        ends = time.monotonic() + grace
        self._health.set_not_serving()
        self._authentication.stop()
        if self._metrics:
            self._metrics.stop()
        if self._rest:
            self._rest.retire()
        await asyncio.sleep(_LAST_WORDS)
        self._streams.close()
        remaining = max(0.0, ends - time.monotonic())
        await asyncio.gather(self._server.stop(remaining), *([self._rest.stop(remaining)] if self._rest else []))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tasks.drain(), max(_LAST_WORDS, ends - time.monotonic()))
        await self._database.close(max(_LAST_WORDS, ends - time.monotonic()))


def _metrics_endpoint(address: Address, methods: Iterable[str], worker: int | None) -> "MetricsEndpoint":
    """Loads what metrics need, which a service without them does without."""
    from service.metrics.endpoint import MetricsEndpoint

    return MetricsEndpoint(address, methods, worker)


def _rest(settings: Settings, address: Address, in_process: InProcess) -> "Rest":
    """Loads what REST needs, which a service without it does without."""
    from service.server.rest import Rest

    return Rest(settings, address, in_process.call)


async def serve(settings: Settings, worker: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second signal ends the process at once.

    A process with a `worker` number is one of several and follows the protocol of supervisor.py: it closes its standard
    output when it is ready, and drains when its standard input ends.
    """
    stopping = asyncio.Event()
    received: list[int] = []

    def stop(**why: str) -> None:
        if not stopping.is_set():
            _log.info("shutting down", grace=settings.shutdown_grace, **why)
            stopping.set()

    def on_signal(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop(signal=signal.Signals(number).name)

    def on_end_of_input() -> None:
        loop.remove_reader(sys.stdin)
        stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)

    service = Service(settings, worker)
    _announce(service, await service.start(), settings)
    if worker is not None:
        drain()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        loop.add_reader(sys.stdin, on_end_of_input)
    _settle_garbage_collection()
    await stopping.wait()
    await service.stop(settings.shutdown_grace)
    _log.info("stopped")


def _announce(service: Service, address: Address, settings: Settings) -> None:
    """Say where calls are accepted, and how a first one is made."""
    print(f"gRPC listening on {address}")
    if settings.reflection == "open":
        print(grpcurl_example(address, settings))
    if service.rest_address:
        print(f"REST listening on {service.rest_address}")
        print(curl_example(service.rest_address, settings))
    if service.metrics_address:
        print(f"metrics listening on {service.metrics_address}")


def _settle_garbage_collection() -> None:
    """Leave alone what is there for good: to look through all of it would hold up every call for some 50 ms."""
    gc.collect()
    gc.freeze()
