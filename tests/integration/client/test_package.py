"""The package a bot imports, and the examples of bots."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from redis import Redis

from tests.integration.client.asked import URI
from tests.integration.doors import services_on, steps_running, until
from worker.cli.servers import Server
from worker.client import Client
from worker.jobs.model import job_id

ROOT = Path(__file__).parents[3]


def test_the_client_is_imported_without_engines_stores_celery_and_http_libraries() -> None:
    code = "import sys, json, worker.client; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60).stdout))
    unwanted = ("celery", "kombu", "pymongo", "aria2p", "qbittorrentapi", "fastapi", "uvicorn", "requests", "prometheus_client", "sqlite3")
    assert loaded.isdisjoint(unwanted)
    assert not [name for name in loaded if name.startswith(("worker.engines", "worker.store", "worker.wiring", "worker.api"))]


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_example_of_a_bot_hears_the_end_of_its_job(own_valkey: Server, tmp_path: Path) -> None:
    with services_on(own_valkey.url, "haul", tmp_path) as services, steps_running(services):
        ticket = job_id("42", "chat-7:message-1")
        with ThreadPoolExecutor(1) as pool, Client(own_valkey.url) as bot:
            example = pool.submit(run_example, "bot_enqueue.py", own_valkey.url, URI)
            until(lambda: services.store.get([ticket]), "the example's job is recorded")
            bot.control(ticket, "cancel")
            done = example.result(60)
    assert done.stdout.splitlines()[0] == f"job {ticket} is queued", done.stderr
    assert done.stdout.splitlines()[-1].startswith("job.cancelled")
    assert done.returncode == 1


def test_the_example_of_a_plain_celery_bot_puts_the_task_in_our_queue(own_valkey: Server) -> None:
    done = run_example("plain_celery.py", own_valkey.url, URI)
    assert (done.returncode, done.stdout) == (0, "sent\n"), done.stderr
    with Redis.from_url(own_valkey.url) as redis:
        [message] = redis.lrange("haul.control", 0, -1)
    assert json.loads(message)["headers"]["task"] == "haul.enqueue"
