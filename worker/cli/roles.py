"""The commands that run and stay: the whole stack of one machine, or a single role of a larger one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.drain import bounded_drain

if TYPE_CHECKING:
    from worker.api.server import ApiServer
    from worker.cli.embedded import EmbeddedStack
    from worker.ports import Services
    from worker.settings import Settings
    from worker.supervision.supervisor import Supervisor

WhileOpen = Annotated[int | None, typer.Option(hidden=True, help="No API and no schedule, and an end when this descriptor is closed.")]


def up(while_open: WhileOpen = None) -> None:
    """Run one machine's whole stack in the foreground: servers, worker, supervisor, schedule and API.

    Ctrl-C or SIGTERM drains it, within 30 s; a second one stops it at once.

    Example: haul up, then in another terminal haul add https://host/file.iso
    """
    from worker.cli.embedded import EmbeddedStack

    settings = _settings()
    if settings.store_url.get_secret_value():  # ours, where none is named, is made with the data directory
        _check_store(settings)
    with EmbeddedStack(settings) as stack, bounded_drain(stack.retire, stack.abandon) as asked:
        from worker.celery import run_worker  # while the servers start

        # Celery warns root for the sake of pickle, which we do not take.
        warnings.filterwarnings("ignore", "You're running the worker with superuser privileges")
        if while_open is None:
            code = run_worker(stack.connected(), roles=frozenset({"worker", "supervisor", "beat"}), api=_api_of(stack))
        else:
            threading.Thread(target=_stop_at_end_of, args=(while_open,), name="parent", daemon=True).start()
            code = run_worker(stack.connected(), roles=frozenset({"worker", "supervisor"}))
        code = 0 if asked.is_set() else code  # Celery calls a Ctrl-C a failure
    raise typer.Exit(code)


def supervise() -> None:
    """Run a supervisor in the foreground: it watches every engine on which it gets the lease.

    With HAUL_METRICS_PORT it answers /health, /ready and /metrics there, on HAUL_API_HOST.

    Example: HAUL_REDIS_URL=redis://redis:6379/0 HAUL_ENGINES=aria2+http://:secret@aria2:6800/jsonrpc haul supervise
    """
    settings = _settings().connected()
    stop = threading.Event()
    with bounded_drain(stop.set, lambda: None):
        from beat_schedule import EXPIRES_S
        from worker import wiring
        from worker.celery import create_app, sender

        # Its sweeper sends the nudges of all processes that do not load Celery.
        app = create_app(settings)
        with contextlib.closing(wiring.build(settings, sender(app))) as services:
            supervisor = wiring.build_supervisor(services, partial(sender(app, EXPIRES_S), "haul.clock"))
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stop.set())
            supervisor.start()
            _answer_probes(services, supervisor)
            stop.wait()
            supervisor.stop()


def api() -> None:
    """Run the HTTP API in the foreground, on HAUL_API_HOST and HAUL_API_PORT.

    Example: HAUL_API_HOST=0.0.0.0 HAUL_API_KEYS_FILE=/run/secrets/keys haul api
    """
    settings = _settings().connected()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):  # the server raises the signal again when it has drained, in 5 s at most
        from worker import wiring
        from worker.api.server import serve

        with contextlib.closing(wiring.build(settings)) as services:
            serve(services, host=settings.api_host, port=settings.api_port).run()


def _answer_probes(services: Services, supervisor: Supervisor) -> None:
    """In a thread that ends with the process: whoever probes it while it drains gets an answer."""
    settings = services.settings
    if settings.metrics_port:
        from worker.api.server import serve_probes

        serve_probes(services, host=settings.api_host, port=settings.metrics_port, loops=supervisor.loops).start()


def _settings() -> Settings:
    from worker import logs
    from worker.settings import EMBEDDED, load
    from worker.tiers import check_file

    settings = load()
    logs.configure(settings.log_level, settings.log_format)
    check_file(settings.tiers)
    if settings.engines_file and EMBEDDED not in settings.engine_addresses:  # else it is read once the stack runs
        from worker.engines.file import check_file as check_engines
        from worker.wiring import engine_defaults

        check_engines(settings.engines_file, engine_defaults(settings))
    return settings


def _check_store(settings: Settings) -> None:
    """Open the store and close it: what is wrong with its address is told before anything is started."""
    from worker.store import open_store

    open_store(settings.store_address, profile=settings.profile).close()


def _api_of(stack: EmbeddedStack) -> Callable[[Services, Callable[[], dict[str, float]]], ApiServer]:
    """Makes the API of this process; the stack tells others its address."""

    def make(services: Services, loops: Callable[[], dict[str, float]]) -> ApiServer:
        from worker.api.server import serve

        settings = services.settings
        return serve(services, host=settings.api_host, port=settings.api_port, loops=loops, ready=stack.announce)

    return make


def _stop_at_end_of(descriptor: int) -> None:
    """Drain when the process that holds the other end of the pipe closes it or dies."""
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
