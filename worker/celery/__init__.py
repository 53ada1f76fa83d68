"""The Celery application: queues, routes, settings, and the services of each worker process.

`celery -A worker worker|beat|flower|inspect` finds `app` here. Every setting that differs from Celery's default has its
reason in ARCHITECTURE.md.
"""

from __future__ import annotations

import os
import socket
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import after_task_publish, beat_init, heartbeat_sent, setup_logging
from kombu import Queue
from kombu.exceptions import OperationalError

from beat_schedule import BEAT_SCHEDULE
from worker import logs, wiring
from worker.celery.bootsteps import ApiStep, BeatStep, DrainStep, Runs, StartStep, SupervisorStep
from worker.coordination.keys import Keys
from worker.jobs.errors import Transient
from worker.ports import Services
from worker.settings import Settings, load

CONTROL, JOBS, MAINTENANCE = "haul.control", "haul.jobs", "haul.maintenance"
VISIBILITY_S = 900
TASK_LIMIT_S = 300

assert TASK_LIMIT_S * 3 <= VISIBILITY_S, "a message comes back only after the longest task has ended"

log = logs.get(__name__)

TRANSPORT: Mapping[str, Any] = {
    "visibility_timeout": VISIBILITY_S,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "client_name": "haul-celery",
}

CONFIGURATION: Mapping[str, Any] = {
    "worker_consumer": "worker.celery.broker:Consumer",
    "broker_transport_options": TRANSPORT,
    "result_backend_transport_options": TRANSPORT,
    "visibility_timeout": VISIBILITY_S,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "broker_pool_limit": 10,
    "task_default_queue": CONTROL,
    "task_queues": [Queue(CONTROL), Queue(JOBS), Queue(MAINTENANCE)],
    "task_routes": {
        **{name: {"queue": JOBS} for name in ("haul.finish", "haul.describe", "haul.probe", "haul.webhook")},
        "haul.maintenance.*": {"queue": MAINTENANCE},
    },
    "task_create_missing_queues": False,
    "task_acks_late": True,
    "task_ignore_result": True,
    "task_retry_on_worker_lost": True,
    "task_time_limit": TASK_LIMIT_S,
    "task_soft_time_limit": TASK_LIMIT_S - 60,
    "task_serializer": "json",
    "accept_content": ["json"],
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_eta_task_limit": 1000,
    "worker_max_tasks_per_child": 500,
    "worker_max_memory_per_child": 400_000,
    "worker_hijack_root_logger": False,
    "timezone": "UTC",
    "enable_utc": True,
    "beat_max_loop_interval": 30,
    "beat_scheduler": "worker.celery.beat:Scheduler",
    "imports": ["worker.tasks"],
}


class ProcessServices:
    """The services of this process, built at their first use, which is after fork."""

    def __init__(self, settings: Settings, send: Callable[[str], object]) -> None:
        self._settings = settings
        self._send = send
        self._lock = threading.Lock()
        self._built: tuple[int, Services] | None = None

    def get(self) -> Services:
        """The services; a forked child builds its own."""
        with self._lock:
            if self._built is None or self._built[0] != os.getpid():
                self._built = (os.getpid(), wiring.build(self._settings, self._send))
            return self._built[1]

    def close(self) -> None:
        """Release the connections of this process, if it made any."""
        with self._lock:
            if self._built is not None and self._built[0] == os.getpid():
                self._built[1].close()
            self._built = None


class HaulApp(Celery):
    """A Celery application with the services its tasks work with."""

    amqp_cls = "worker.celery.broker:Amqp"
    services: ProcessServices
    settings: Settings


def create_app(settings: Settings) -> HaulApp:
    """The application for these settings, which have real addresses; nothing is connected yet."""
    app = HaulApp("haul", broker=settings.redis_address, set_as_current=False)
    app.conf.update(CONFIGURATION)
    app.conf.update(
        broker_transport_options={**TRANSPORT, "parked_key": Keys(settings.key_prefix).parked},
        beat_schedule=BEAT_SCHEDULE,
        timezone=settings.timezone,
        beat_schedule_filename=str(settings.data_dir / "beat-schedule"),
    )
    app.settings = settings
    app.services = ProcessServices(settings, sender(app))
    app.user_options["worker"].add(
        click.Option(["--supervise"], is_flag=True, help="Run Haul's supervisor in this worker (threads or solo pool).")
    )
    app.steps["worker"].update({DrainStep, SupervisorStep, BeatStep, ApiStep, StartStep})
    if settings.alive_path:
        _show_life(settings.alive_path)
    return app


def _show_life(path: Path) -> None:
    """Touch a file while this process works, for a health check that costs nothing and asks nobody.

    A worker does so at each heartbeat, every 2 s, which its event loop sends: a loop that hangs sends none. Beat does so
    when it starts and whenever the broker has taken one of its messages.
    """

    def touch(**_options: Any) -> None:
        path.touch()

    def touch_when_sent(**_options: Any) -> None:
        touch()
        after_task_publish.connect(touch, weak=False)

    heartbeat_sent.connect(touch, weak=False)
    beat_init.connect(touch_when_sent, weak=False)


def sender(app: Celery, expires_s: float | None = None) -> Callable[[str], None]:
    """Sends a task by name, without arguments; raises Transient when the broker does not take it at once."""

    def send(name: str) -> None:
        try:
            app.send_task(name, expires=expires_s, retry=False, ignore_result=True)
        except (OperationalError, OSError) as error:
            raise Transient("redis", f"the message {name} is not sent: {type(error).__name__}") from None

    return send


def run_worker(
    settings: Settings,
    *,
    roles: frozenset[str] = frozenset({"worker", "supervisor"}),
    api: Callable[[Services, Callable[[], dict[str, float]]], Runs] | None = None,
    concurrency: int = 6,
) -> int:
    """Run a worker with the threads pool in this process until SIGTERM or Ctrl-C, then drain; a second signal stops at once.

    Args:
        roles: of `worker`, `supervisor`, `beat`.
        api: makes the API of this process from its services and the ages of its loops.

    Returns:
        the exit code.
    """
    app = create_app(settings)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # only JSON is accepted, so running as root adds no hole
    worker = app.Worker(
        hostname=f"worker@{socket.gethostname()}-{os.getpid()}",
        pool="threads",
        concurrency=concurrency,
        loglevel=settings.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
        supervise="supervisor" in roles,
        beat_thread="beat" in roles,
        lasting="beat" in roles,
        api=api,
        quiet=True,
    )
    try:
        worker.start()
    finally:
        app.services.close()
    return int(worker.exitcode or 0)


@setup_logging.connect
def _own_logging(**_options: Any) -> None:
    """Celery leaves logging alone when this signal has a receiver; processes of ours set it up with `logs.configure`."""
    settings = load()
    logs.configure(settings.log_level, settings.log_format)


@cache
def _default_app() -> HaulApp:
    return create_app(load().connected())


def __getattr__(name: str) -> Any:
    """`app`, made from the environment when Celery's command line asks for it."""
    if name == "app":
        return _default_app()
    raise AttributeError(name)
