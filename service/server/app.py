"""The wiring: builds every part of a server process, top to bottom, and starts, drains and stops it."""

import asyncio
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
import structlog
import uuid_utils
from grpc_health.v1 import health_pb2_grpc
from taskwell.v1 import tasks_pb2_grpc

from service.address import Address
from service.auth.jwks import KeysError
from service.auth.peers import Peers
from service.config.settings import Settings
from service.db.engine import Database
from service.db.pool import PoolSettings
from service.db.store import SqlTaskStore
from service.metrics.files import Sharing
from service.metrics.recorder import Metrics
from service.metrics.series import IN_FLIGHT, READY, WAITING
from service.readiness import SHUTTING_DOWN, STARTING, Readiness
from service.rpc.call_limits import CallLimits
from service.rpc.call_log import CallLog
from service.rpc.drain import Drain
from service.rpc.handlers import Context
from service.rpc.health import Health
from service.rpc.in_process import InProcess, InProcessContext
from service.rpc.interceptor import UNOBSERVED, CallInterceptor, Guard, current_caller
from service.rpc.policy import CHANNELZ, HEALTH, POLICY, TASK_SERVICE, Access, with_channelz, with_reflection
from service.rpc.rate_limit import RateLimiter
from service.rpc.reflection import add_reflection
from service.rpc.servicer import TaskServicer
from service.rpc.streams import OpenStreams
from service.server.announcements import curl_example, grpcurl_example
from service.server.authentication import Authentication
from service.server.grpc_options import server_options
from service.server.heartbeat import Heartbeat
from service.server.metrics import make_metrics, watch_certificates, watch_database, watch_keys
from service.server.sockets import refuse_address_in_use
from service.server.startup import StartError, cannot_listen
from service.standard_streams import drain_streams
from service.tasks.methods import Tasks
from service.tls.files import CertificateError
from service.tls.grpc_credentials import server_credentials
from service.tracing import sdk

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from service.metrics.endpoint import MetricsEndpoint
    from service.server.rest import Rest
    from service.tls.certificates import Certificates
    from service.tracing.spans import CallTracer

_log = structlog.get_logger("app")

# Minimum time for a step of the shutdown (s): NOT_SERVING must reach health watchers before their streams end, and the
# last responses their callers before the connections are closed.
_MIN_STEP = 0.1

# Time for the last spans to be sent at shutdown (s): at least, also when the grace is over, and at most.
_MIN_FLUSH, _MAX_FLUSH = 1.0, 3.0

# New objects before the garbage collector looks at those, and how often it then looks at older ones (gc.set_threshold).
_COLLECTION_THRESHOLDS = 50_000, 20, 10


class Service:
    """One server process. Create it in a running event loop, then `start` it and later `stop` it.

    The schema must exist: `prepare_schema` migrates or verifies it, and returns the settings for this class. A service
    with a `worker` number shares its addresses with other workers; `reserve_addresses` holds them. Workers share
    metrics in a folder.
    """

    def __init__(self, settings: Settings, worker: int | None = None, metrics_folder: str = "") -> None:
        self._settings = settings
        self._shares_ports = worker is not None
        self._readiness = Readiness()
        self._readiness.block(STARTING)
        policy: Mapping[str, Access] = POLICY
        if settings.reflection != "off":
            policy = with_reflection(policy, Access.OPEN if settings.reflection == "open" else Access.CALLER)
        if settings.channelz:
            policy = with_channelz(policy)
        metrics = None
        if settings.metrics:
            sharing = (
                Sharing(Path(metrics_folder), worker, settings.worker_count) if worker and metrics_folder else None
            )
            metrics = make_metrics(policy, sharing)
        self._database = Database(
            settings.database,
            PoolSettings(
                size=settings.database_pool_size,
                max_overflow=settings.database_max_overflow,
                timeout=settings.database_pool_timeout,
                recycle=settings.database_pool_recycle,
                ping_after=settings.database_ping_after,
                prepare=settings.database_prepare,
                # A statement may outlive its call only briefly: it holds a database connection.
                statement_timeout=settings.max_call_seconds + 5,
            ),
            metrics,
        )
        known_users_only = settings.users == "known"
        by_owner = settings.database_distributed == "true"
        self._tasks = Tasks(
            SqlTaskStore(self._database, known_users_only=known_users_only, by_owner=by_owner),
            clock=lambda: datetime.now(UTC),
            new_id=lambda: str(uuid_utils.uuid7()),
            known_users_only=known_users_only,
            by_owner=by_owner,
            coalesce=settings.coalesce,
            on_batch=metrics.on_batch if metrics else None,
        )
        self._streams = OpenStreams()
        self._drain = Drain()
        self._authentication = Authentication(settings, self._readiness)
        limits = CallLimits(
            max_in_flight=settings.max_in_flight, max_seconds=settings.max_call_seconds, drain=self._drain
        )
        if metrics:
            metrics.watch(IN_FLIGHT, lambda: limits.admission.running)
            metrics.watch(WAITING, self._tasks.waiting)
            metrics.watch(READY, lambda: self._readiness.is_ready)
            watch_database(metrics, self._database)
            if keys := self._authentication.issuer_keys:
                watch_keys(metrics, keys)
        self._recorded, self._metrics = metrics, _metrics_endpoint(settings, metrics, self._readiness)
        self._traces = sdk.start(os.environ) if sdk.are_wanted(os.environ) else None
        tracer = _call_tracer(self._traces, policy, settings) if self._traces else None
        interceptor = CallInterceptor(
            policy=policy,
            authenticate=self._authentication.authenticate,
            scopes=self._authentication.scopes,
            limits=limits,
            streams=self._streams,
            drain=self._drain,
            max_message_bytes=settings.max_message_bytes,
            max_metadata_bytes=settings.max_metadata_bytes,
            observer=metrics or UNOBSERVED,
            guards=self._guards(),
            tracer=tracer,
            log=CallLog(
                slow_seconds=settings.log_slow_calls,
                success_sample=settings.log_success_sample,
                outages=(self._database.pool.outage, self._database.pool.exhausted),
            ),
        )
        self._server = grpc.aio.server(
            interceptors=(interceptor,),
            # SO_REUSEPORT for workers only: else a second server on the port would get half of the connections.
            options=[*server_options(settings), ("grpc.so_reuseport", int(self._shares_ports))],
        )
        # REST calls the same methods behind the same interceptor and cannot bypass it.
        in_process, servicer = InProcess(interceptor), TaskServicer(self._tasks)
        health = Health(("", TASK_SERVICE), self._readiness)
        for server in (self._server, in_process):
            tasks_pb2_grpc.add_TaskServiceServicer_to_server(servicer, cast("grpc.aio.Server", server))
            health_pb2_grpc.add_HealthServicer_to_server(health, cast("grpc.aio.Server", server))
        on_error = metrics.on_error if metrics else UNOBSERVED.on_error
        rest = settings.rest
        self._rest = _rest(settings, rest, in_process, self._readiness, on_error, tracer) if rest else None
        if settings.reflection != "off":
            services = (TASK_SERVICE, HEALTH, *((CHANNELZ,) if settings.channelz else ()))
            add_reflection(self._server, services)
        if settings.channelz:
            from grpc_channelz.v1.channelz import add_channelz_servicer

            add_channelz_servicer(self._server)

    async def start(self) -> Address:
        """Start to accept calls and return the gRPC address, with the actual port.

        Raises StartError if an address is in use, or if keys or certificates are invalid.
        """
        try:
            await self._authentication.start()
            certificates = self._authentication.certificates()
        except (KeysError, CertificateError) as error:
            raise StartError(str(error)) from error
        wanted = self._settings.grpc
        try:
            if not self._shares_ports:
                refuse_address_in_use(wanted)
            if certificates is None:
                port = self._server.add_insecure_port(str(wanted))
            else:
                credentials = server_credentials(certificates.pem, certificates.follow())
                port = self._server.add_secure_port(str(wanted), credentials)
        except (RuntimeError, OSError) as error:
            raise cannot_listen("grpc_address", wanted) from error
        if self._recorded and certificates:
            watch_certificates(self._recorded, certificates)
        if self._metrics:
            self._start_metrics(self._metrics)
        if self._rest:
            await self._start_rest(self._rest, certificates)
        await self._server.start()
        self._readiness.unblock(STARTING)
        return Address(wanted.host, port)

    @property
    def rest_address(self) -> Address | None:
        """REST address, with the actual port once started; None without REST."""
        return self._rest.address if self._rest else None

    @property
    def metrics_address(self) -> Address | None:
        """Metrics address, with the actual port once started; None without metrics."""
        return self._metrics.address if self._metrics else None

    def _start_metrics(self, endpoint: "MetricsEndpoint") -> None:
        try:
            endpoint.start()
        except OSError as error:
            raise cannot_listen("metrics_address", endpoint.address) from error

    async def _start_rest(self, rest: "Rest", certificates: "Certificates | None") -> None:
        try:
            await rest.start(certificates, shares_port=self._shares_ports)
        except CertificateError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise cannot_listen("rest_address", rest.address) from error

    def _guards(self) -> list[Guard]:
        guards: list[Guard] = []
        if peers := self._authentication.peers:
            guards.append(partial(_check_peer, peers))
        # After the check of peers: a service that may not call must not use up a user's rate limit.
        if rate := self._settings.rate_limit:
            limiter = RateLimiter(rate=rate, burst=self._settings.rate_burst or math.ceil(rate), clock=time.monotonic)
            guards.append(lambda _: limiter.take(current_caller().user_id))
        return guards

    async def drain(self, *, grace: float, delay: float = 0.0) -> None:
        """Report NOT_SERVING for `delay` seconds, refuse new calls, drain the calls in flight within `grace` seconds.

        New calls are refused with UNAVAILABLE until `close`, or until the process exits. The gRPC core has no such
        status: once it is told to stop, it resets the calls that still arrive, and their callers see CANCELLED.
        """
        self._readiness.block(SHUTTING_DOWN)
        if self._rest:
            self._rest.drain()
        await asyncio.sleep(max(delay, _MIN_STEP))
        self._authentication.stop()
        deadline = time.monotonic() + grace
        self._drain.begin()
        self._streams.close()
        rest = [self._rest.stop(grace)] if self._rest else []
        await asyncio.gather(self._drain.wait(grace), *rest)
        if self._drain.in_flight:
            _log.warning("calls are cut off", calls=self._drain.in_flight)
        await asyncio.sleep(_MIN_STEP)
        await _at_most(deadline - time.monotonic(), self._tasks.drain())
        await _at_most(deadline - time.monotonic(), self._database.close(max(_MIN_STEP, deadline - time.monotonic())))
        if self._traces:
            await sdk.stop(self._traces, max(_MIN_FLUSH, min(_MAX_FLUSH, deadline - time.monotonic())))

    async def close(self) -> None:
        """Close the port and every connection, after `drain`."""
        await self._server.stop(None)


async def _at_most(seconds: float, step: Awaitable[object]) -> None:
    """Run a step of the shutdown, and go on without it after this time: its failure must not prevent the exit."""
    task = asyncio.ensure_future(step)
    await asyncio.wait({task}, timeout=max(_MIN_STEP, seconds))
    if task.done() and (error := task.exception()):
        _log.warning("a step of the shutdown failed", exc_info=error)


def _check_peer(peers: Peers, context: "Context | InProcessContext") -> None:
    """Raise PeerNotAllowed unless the client's certificate has one of the names.

    Clients of REST have passed the same check in their TLS handshake (service/server/rest.py).
    """
    if not isinstance(context, InProcessContext):
        peers.require(context.auth_context())


def _metrics_endpoint(settings: Settings, metrics: Metrics | None, readiness: Readiness) -> "MetricsEndpoint | None":
    """Create the metrics endpoint; None if metrics are off. Its libraries are imported only when they are on."""
    if settings.metrics is None or metrics is None:
        return None
    from service.metrics.endpoint import MetricsEndpoint

    return MetricsEndpoint(settings.metrics, metrics, readiness=readiness, hang_timeout=settings.worker_timeout)


def _call_tracer(provider: "TracerProvider", policy: Mapping[str, Access], settings: Settings) -> "CallTracer":
    """Create the tracer of calls. OpenTelemetry is imported only when traces are on."""
    from service.tracing.spans import CallTracer

    methods = [method for method in policy if method.startswith(f"/{TASK_SERVICE}/")]
    return CallTracer(
        provider,
        version("taskwell"),
        methods=methods,
        untraced=policy.keys() - methods,
        address=settings.grpc,
        database=settings.database.attributes,
        honours_parents=sdk.honours_parents(os.environ),
        draw=getattr(provider.id_generator, "draw", lambda: True),
    )


def _rest(
    settings: Settings,
    address: Address,
    in_process: InProcess,
    readiness: Readiness,
    on_error: Callable[[str, str], None],
    tracer: "CallTracer | None",
) -> "Rest":
    """Create the REST server. Its libraries are imported only when REST is on."""
    from service.server.rest import Rest

    return Rest(settings, address, in_process, readiness, lambda reason: on_error(reason, "rest"), tracer)


async def serve(settings: Settings, worker: int | None = None, metrics_folder: str = "") -> None:
    """Serve until SIGTERM or SIGINT, then shut down gracefully. A second signal ends the process at once.

    A worker follows the protocol in supervisor.py: it says when it is ready and that it lives, and shuts down when its
    standard input ends.
    """
    stopping = asyncio.Event()
    received: list[int] = []

    def stop(**cause: str) -> None:
        if not stopping.is_set():
            _log.info("shutting down", delay=settings.shutdown_delay, grace=settings.shutdown_grace, **cause)
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

    heartbeat = Heartbeat() if worker is not None else None
    service = Service(settings, worker, metrics_folder)
    announcement = _announcement(service, await service.start(), settings)
    if heartbeat:
        heartbeat.start(announcement)
        loop.add_reader(sys.stdin, on_end_of_input)
    else:
        print(announcement, end="")
    _tune_garbage_collection()
    await stopping.wait()
    await service.drain(grace=settings.shutdown_grace, delay=settings.shutdown_delay)
    _log.info("stopped")
    # Not by returning: the event loop would wait for tasks and threads that a silent database keeps busy.
    drain_streams()
    os._exit(0)


def _announcement(service: Service, address: Address, settings: Settings) -> str:
    """The addresses and example calls."""
    lines = [f"gRPC listening on {address}"]
    if settings.reflection == "open":
        lines.append(grpcurl_example(address, settings))
    if service.rest_address:
        lines += [f"REST listening on {service.rest_address}", curl_example(service.rest_address, settings)]
    if service.metrics_address:
        lines.append(f"metrics listening on {service.metrics_address}")
    return "".join(f"{line}\n" for line in lines)


def _tune_garbage_collection() -> None:
    """Keep the garbage collector from pausing calls: scanning every object takes some 50 ms.

    The objects created so far are exempt. Under overload thousands of calls are alive; by default all of their objects
    would be scanned several times a second, which cost a third of the goodput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTION_THRESHOLDS)
