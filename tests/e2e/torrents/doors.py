"""Every way to ask a stack for a torrent, and what has to be in place then."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.e2e.stack import Stack
from tests.e2e.torrents.cases import DONE_S, Case
from tests.torrents import Pack
from worker.api.server import serve
from worker.client import Client
from worker.jobs.torrents import read_torrent


@dataclass(frozen=True)
class Asked:
    """A job, and the torrent it is for."""

    id: str
    made: Pack
    select: tuple[int, ...] = ()


def upload(made: Pack) -> str:
    """The torrent as the field `torrent` takes it."""
    return base64.b64encode(made.document).decode()


def numbers(made: Pack, select: tuple[int, ...]) -> list[int]:
    """What the field `select` calls these files."""
    files = read_torrent(made.document).files
    return [files[place - 1].number for place in select]


def check_in_place(stack: Stack, asked: Asked) -> Path:
    """The job is done with the selected files, each with its bytes, under their names, and nothing is left elsewhere."""
    job = stack.until(asked.id, "done", timeout_s=DONE_S)
    assert job.result is not None
    wanted = {name: body for n, (name, body) in enumerate(asked.made.files.items(), 1) if not asked.select or n in asked.select}
    path = Path(job.result.path)
    assert path.parent == stack.downloads / job.id
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    if len(wanted) == 1:
        [(name, body)] = wanted.items()
        assert path.name == (asked.made.name if asked.made.single else Path(name).name)
        assert path.read_bytes() == body
    else:
        assert path.name == asked.made.name
        assert tree(path) == wanted
    assert job.result.size == sum(map(len, wanted.values()))
    stack.check_gone(job)
    return path


def tree(directory: Path) -> dict[str, bytes]:
    """Path below the directory -> content."""
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


class Doors:
    """Every way to ask a stack for a torrent."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._api = serve(stack.services, host="127.0.0.1", port=0)
        self._client = Client(stack.redis.url)

    def __enter__(self) -> Doors:
        self._api.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._api.stop()

    def ask(self, case: Case, made: Pack, engine: str | None) -> str:
        """The id of the new job."""
        spec: dict[str, Any] = {"user": f"torrents-{engine}", "engine": engine}
        if case.select:
            spec["select"] = numbers(made, case.select)
        if case.door == "api":
            answer = requests.post(f"{self._api.url}/v1/jobs", json={**spec, "torrent": upload(made)}, timeout=20)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])
        if case.door == "client":
            return self._client.enqueue(torrent=made.document, **spec).id
        if case.door == "document":
            return self._stack.ask(None, torrent=upload(made), **spec)
        if case.door == "magnet":
            return self._stack.ask(made.magnet(), **spec)
        url = self._stack.origin.document(f"{made.name}.torrent", made.document)
        return self._stack.ask(url.replace("/doc/", "/flaky/doc/") + "?fails=2" if case.door == "flaky url" else url, **spec)
