"""The API's routes on one page, and the server that runs them: in a thread beside other roles, or alone."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from worker import logs
from worker.api import problems
from worker.api.auth import KeyRequired, LoopbackOnly, is_loopback
from worker.api.edge import Bounded, Watched
from worker.api.events import EventStream, Viewers
from worker.api.health import Health
from worker.api.jobs import Jobs
from worker.api.schemas import BandwidthView, EngineList, JobList, JobView, LimitsView, QueueView, WhyView
from worker.jobs.requests import TORRENT_TEXT_MAX
from worker.maintenance.warming import Warmer
from worker.ports import Services
from worker.settings import Settings, SettingsError

log = logs.get(__name__)

#: A `.torrent` file in base64, and what goes with it.
BODY_BYTES_MAX = TORRENT_TEXT_MAX + 64 * 1024
#: Bodies that are read or dealt with at once, all together.
BODIES_BYTES_MAX = 10 * BODY_BYTES_MAX
BODY_TIMEOUT_S = 10.0
#: Connections at once, event viewers among them; one more is answered 503.
CONNECTIONS_MAX = 1_000
#: How long a connection without a request is kept.
KEEP_ALIVE_S = 5
#: How long a caller may take to send the head of a request, and a closed connection to go.
HEAD_TIMEOUT_S = 10.0
DRAIN_S = 5
START_TIMEOUT_S = 10.0
#: How often uvicorn calls `on_tick`.
TICKS_A_SECOND = 10

Loops = Callable[[], dict[str, float]]


def create_app(services: Services, loops: Loops = dict) -> FastAPI:
    """The application; it owns none of the services.

    Args:
        loops: the seconds since the last tick of each loop of this process, by its name.
    """
    keys = [key.get_secret_value() for key in services.settings.api_keys]
    app = FastAPI(
        title="Haul",
        summary="Downloads as jobs",
        redoc_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(Watched, services.metrics.requests),
            Middleware(KeyRequired, keys) if keys else Middleware(LoopbackOnly),
            Middleware(Bounded, BODY_BYTES_MAX, BODY_TIMEOUT_S, BODIES_BYTES_MAX),
        ],
    )
    app.state.viewers = Viewers(services.coordinator)
    problems.install(app)
    _add_routes(app, Jobs(services), keyed=bool(keys))
    _add_probes(app, Health(services, loops))
    return app


def create_probes(services: Services, loops: Loops) -> FastAPI:
    """`/health`, `/ready` and `/metrics` alone, which need no key: for a process that answers probes and scrapers only."""
    edge = [Middleware(Watched, services.metrics.requests), Middleware(Bounded, BODY_BYTES_MAX, BODY_TIMEOUT_S, BODIES_BYTES_MAX)]
    app = FastAPI(openapi_url=None, redirect_slashes=False, middleware=edge)
    app.state.viewers = Viewers(services.coordinator)
    problems.install(app)
    _add_probes(app, Health(services, loops))
    return app


def _add_routes(app: FastAPI, jobs: Jobs, *, keyed: bool) -> None:
    # For the `Authorize` button of /docs only: KeyRequired has decided before.
    shown = [Depends(HTTPBearer(auto_error=False))] if keyed else []

    def route(method: str, path: str, endpoint: Callable[..., Any], model: Any = None, **more: Any) -> None:
        more |= {"dependencies": shown, "responses": {**_PROBLEMS, **more.pop("responses", {})}}
        app.add_api_route(path, endpoint, methods=[method], response_model=model, tags=["v1"], **more)

    known = {200: {"model": JobView, "description": "The key is known: its job as it is now"}}
    route("POST", "/v1/jobs", jobs.add, JobView, status_code=201, responses=known)
    route("GET", "/v1/jobs", jobs.page, JobList)
    route("GET", "/v1/jobs/{id}", jobs.show, JobView)
    route("GET", "/v1/jobs/{id}/why", jobs.why, WhyView)
    route("POST", "/v1/jobs/{id}/{action}", jobs.act, JobView)
    route("GET", "/v1/engines", jobs.engines, EngineList)
    route("POST", "/v1/engines/{name}/drain", jobs.drain, EngineList)
    route("POST", "/v1/engines/{name}/undrain", jobs.undrain, EngineList)
    route("GET", "/v1/queue", jobs.queue, QueueView)
    route("GET", "/v1/limits/{user:path}", jobs.limits, LimitsView)
    route("GET", "/v1/bandwidth", jobs.bandwidth, BandwidthView)
    route("PUT", "/v1/bandwidth", jobs.set_bandwidth, BandwidthView)
    route("GET", "/v1/events", app.state.viewers.watch, status_code=200, response_class=EventStream)


def _add_probes(app: FastAPI, health: Health) -> None:
    for path, endpoint in {"/health": health.health, "/ready": health.ready}.items():
        down: dict[int | str, Any] = {503: {**_PROBLEMS["default"], "description": "What is down, in words"}}
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None, tags=["operation"], responses=down)
    app.add_api_route("/metrics", health.metrics, methods=["GET"], response_class=PlainTextResponse, tags=["operation"])


_PROBLEMS: Mapping[int | str, Any] = {
    status: {"description": text, "content": {problems.MEDIA_TYPE: {"schema": problems.Problem.model_json_schema()}}}
    for status, text in (
        (422, "Bad input: the field and the fix are named"),
        (429, "A limit: Retry-After says when the same request may succeed"),
        ("default", "Any other error"),
    )
}


class ApiServer:
    """The application on a port that is taken already; made by `serve`.

    Attributes:
        url: where it is reached; the real port when any was asked for.
    """

    def __init__(self, app: FastAPI, listener: socket.socket, ready: Callable[[str], None] | None, warmer: Warmer | None = None) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._listener, self._warmer = listener, warmer
        self._started = threading.Event()
        self._thread: threading.Thread | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
        )
        self._server = _Server(config, lambda: self._tell(ready), app.state.viewers.close)

    def run(self) -> None:
        """Serve in this thread until `stop`, or in the main thread until SIGINT or SIGTERM, which is raised again after the drain."""
        try:
            self._server.run([self._listener])
        finally:
            self._listener.close()
            if self._warmer:
                self._warmer.stop()

    def start(self) -> None:
        """Serve in a thread of its own; returns when requests are answered. Touches neither signals nor logging."""
        self._thread = threading.Thread(target=self.run, name="api", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise SettingsError(f"HAUL_API_PORT: the API did not start on {self.url}; the log says why")

    def stop(self) -> None:
        """Take no more requests, give those that run 5 s, end the event streams; idempotent."""
        self._server.should_exit = True
        if self._thread is None:
            self._listener.close()
        else:
            self._thread.join(DRAIN_S + START_TIMEOUT_S)

    def _tell(self, ready: Callable[[str], None] | None) -> None:
        log.info("the API answers", url=self.url)
        if ready:
            ready(self.url)
        self._started.set()
        if self._warmer:
            self._warmer.start()


class _Server(uvicorn.Server):
    """uvicorn, which ends the event streams before it drains and drops callers that never finish the head of a request."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell_started = started
        self._tell_stopping = stopping
        self._idle: dict[Any, tuple[Any, int]] = {}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See the first signal to stop as uvicorn does; the second one ends the process at once."""
        if self.should_exit:
            os._exit(1)  # what is being answered is not waited for; what was answered is recorded
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._tell_stopping()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_SECOND == 0:
            self._drop_silent()
        return await super().on_tick(counter)

    def _drop_silent(self) -> None:
        """Cut connections on which no request has begun or ended for `HEAD_TIMEOUT_S`; uvicorn itself waits for ever."""
        idle = {}
        connection: Any
        for connection in list(self.server_state.connections):
            cycle = connection.cycle
            if not (cycle is None or cycle.response_complete or connection.transport.is_closing()):
                continue
            before, seconds = self._idle.get(connection, (cycle, -1))
            idle[connection] = (cycle, seconds + 1 if before is cycle else 0)
            if idle[connection][1] >= HEAD_TIMEOUT_S:
                connection.transport.abort()
        self._idle = idle


def serve(services: Services, *, host: str, port: int, loops: Loops = dict, ready: Callable[[str], None] | None = None) -> ApiServer:
    """Take the port; nothing else is started before `ApiServer.start` or `run`.

    Args:
        host: an address of this machine; only a loopback one without API keys.
        port: 0 takes a free one.
        ready: called once with the URL, when requests are answered.

    Raises:
        SettingsError: the address cannot be had, or would be open to everybody.
    """
    check_host(services.settings, host)
    return ApiServer(create_app(services, loops), _listen(host, port), ready, Warmer(services))


def serve_probes(services: Services, *, host: str, port: int, loops: Loops) -> ApiServer:
    """As `serve`, for `/health`, `/ready` and `/metrics` alone; any host will do."""
    return ApiServer(create_probes(services, loops), _listen(host, port), None)


def check_host(settings: Settings, host: str) -> None:
    """Raise SettingsError when others than this machine could reach the API and no key is set."""
    if not settings.api_keys and not is_loopback(host):
        raise SettingsError(f"HAUL_API_KEYS: {host} can be reached from outside; set at least one key, or HAUL_API_HOST=127.0.0.1")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise SettingsError(f"HAUL_API_HOST: {host}: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(CONNECTIONS_MAX)  # only a listening socket keeps the port from others
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _unusable(error, host, port) from None
    return listener


def _unusable(error: OSError, host: str, port: int) -> SettingsError:
    if error.errno == errno.EADDRINUSE:
        return SettingsError(f"HAUL_API_PORT: port {port} is in use; stop what listens there, or choose another")
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(f"HAUL_API_HOST: {host} is no address of this machine")
    return SettingsError(f"HAUL_API_PORT: cannot listen on {host} port {port}: {error.strerror}")
