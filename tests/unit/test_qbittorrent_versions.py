"""qBittorrent 5.x through the real client: how it is asked and what it answers, in the shapes of its API (2.11 to 2.16).

The answers are taken to the client without a socket, and what is asked is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
from requests.adapters import BaseAdapter

from tests.torrents import pack
from worker.engines.qbittorrent.engine import QbittorrentEngine
from worker.jobs.errors import Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Reason
from worker.ports import Fault, ItemStatus, Order

Answer = tuple[int, str | dict[str, Any]]

MADE = pack()
#: Of a torrent as 5.1 sends it, without what is not looked at; fields that 4.5 does not have are here.
ROW: dict[str, Any] = {
    "amount_left": 870_000,
    "completed": 0,
    "dlspeed": 0,
    "has_metadata": True,
    "inactive_seeding_time_limit": -1,
    "infohash_v1": MADE.v1,
    "infohash_v2": "",
    "num_leechs": 0,
    "num_seeds": 0,
    "popularity": 0,
    "private": False,
    "progress": 0,
    "ratio": 0,
    "ratio_limit": 0,
    "root_path": "",
    "seeding_time": 0,
    "seeding_time_limit": -1,
    "size": 870_000,
    "state": "downloading",
    "tags": "",
    "total_size": 870_000,
    "uploaded": 0,
}


class Recorded(BaseAdapter):
    """A qBittorrent that has one version of the API and one torrent.

    Attributes:
        asked: (path, form) of each request.
        answers: by path, instead of the usual ones.
    """

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, Callable[[dict[str, str]], Answer]] = {}
        self.rows: dict[str, dict[str, Any]] = {}

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        path = str(request.path_url).removeprefix("/api/v2/").partition("?")[0]
        form = _form(request)
        self.asked.append((path, form))
        status, body = self.answers[path](form) if path in self.answers else self._usual(path)
        response = requests.Response()
        response.status_code, response.request, response.url = status, request, str(request.url)
        response.raw = BytesIO((body if isinstance(body, str) else json.dumps(body)).encode())
        return response

    def close(self) -> None:
        """Nothing is open."""

    @property
    def counts(self) -> bool:
        """From 5.2 on a login has no words, and an order is answered with counts."""
        return tuple(map(int, self.version.split("."))) >= (2, 14)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def _usual(self, path: str) -> Answer:
        look = {"rid": 1, "full_update": True, "torrents": self.rows, "server_state": {"dl_info_speed": 0}}
        usual: dict[str, Answer] = {
            "auth/login": (204, "") if self.counts else (200, "Ok."),
            "app/webapiVersion": (200, self.version),
            "app/preferences": (200, {}),
            "sync/maindata": (200, look),
        }
        return usual.get(path, (200, ""))


def _form(request: requests.PreparedRequest) -> dict[str, str]:
    body = request.body or b""
    data = body if isinstance(body, bytes) else body.encode()
    kind = str(request.headers.get("Content-Type", ""))
    if not kind.startswith("multipart/"):
        return {name: values[0] for name, values in parse_qs(data.decode(), keep_blank_values=True).items()}
    boundary = kind.partition("boundary=")[2].encode()
    form = {}
    for part in data.split(b"--" + boundary)[1:-1]:
        head, _, value = part.strip(b"\r\n").partition(b"\r\n\r\n")
        form[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.decode(errors="replace")
    return form


def engine(recorded: Recorded, directory: Path) -> QbittorrentEngine:
    made = QbittorrentEngine("qb", "http://host:8080", "haul", "secret", str(directory), 4)
    made._session._client._session.mount("http://", recorded)
    return made


def order(directory: Path, **more: Any) -> Order:
    return Order("t1", 1, Source(SourceKind.TORRENT, "torrent:x"), str(directory / ".haul/t1/qb"), document=MADE.document, **more)


def shown(recorded: Recorded, one: Order, tag: str, **changes: Any) -> None:
    recorded.rows[str(MADE.v1)] = {**ROW, "save_path": one.directory, "tags": tag, **changes}


@pytest.mark.parametrize(
    ("version", "stop", "start"), [("2.8.19", "pause", "resume"), ("2.9.3", "pause", "resume"), ("2.11.4", "stop", "start")]
)
def test_stopping_and_starting_have_the_names_of_the_version(version: str, stop: str, start: str, tmp_path: Path) -> None:
    recorded, one = Recorded(version), order(tmp_path)
    adapter = engine(recorded, tmp_path)
    state = "pausedDL" if stop == "pause" else "stoppedDL"

    def started(_: dict[str, str]) -> Answer:
        shown(recorded, one, adapter.handle("t1", 1))
        return 200, ""

    recorded.answers[f"torrents/{start}"] = started
    shown(recorded, one, adapter.handle("t1", 1), state=state)
    assert adapter.poll().items[adapter.handle("t1", 1)].status is ItemStatus.PAUSED
    adapter.pause([adapter.handle("t1", 1)])
    assert adapter.submit([one]) == [None]
    assert recorded.paths().count(f"torrents/{stop}") == recorded.paths().count(f"torrents/{start}") == 1
    assert recorded.paths().count("app/webapiVersion") == 1


@pytest.mark.parametrize("version", ["2.11.4", "2.15.1", "2.16.2"])
def test_an_order_is_added_with_the_parameters_of_all_versions(version: str, tmp_path: Path) -> None:
    recorded, one = Recorded(version), order(tmp_path, select=(2,), seed_ratio=1.5, seed_time_s=60.0, category="films")
    adapter = engine(recorded, tmp_path)

    def added(_: dict[str, str]) -> Answer:
        shown(recorded, one, adapter.handle("t1", 1))
        counts = {"success_count": 1, "failure_count": 0, "pending_count": 0, "added_torrent_ids": [MADE.v1]}
        return (200, counts) if recorded.counts else (200, "Ok.")

    recorded.answers["torrents/add"] = added
    files = [{"index": n, "name": str(n), "priority": 1, "size": 1} for n in range(3)]
    recorded.answers["torrents/files"] = lambda _: (200, json.dumps(files))
    assert adapter.submit([one]) == [None]
    form = dict(recorded.asked)["torrents/add"]
    expected = {
        "paused": "True",
        "stopped": "True",
        "autoTMM": "False",
        "savepath": one.directory,
        "tags": adapter.handle("t1", 1),
        "ratioLimit": "1.5",
        "seedingTimeLimit": "1",
        "inactiveSeedingTimeLimit": "-1",
        "shareLimitAction": "Stop",
        "shareLimitsMode": "MatchAny",
        "category": "films",
        "contentLayout": "Original",
    }
    assert {name: form[name] for name in expected} == expected
    assert "skip_checking" not in form
    assert "seedMode" not in form
    priorities = dict(recorded.asked)["torrents/filePrio"]
    assert (priorities["id"], priorities["priority"]) == ("0|2", "0")
    assert recorded.paths().index("torrents/filePrio") < recorded.paths().index("torrents/start")


@pytest.mark.parametrize(
    "answer",
    [(200, "Fails."), (409, "Conflict"), (200, {"success_count": 0, "failure_count": 1, "pending_count": 0, "added_torrent_ids": []})],
)
@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("haul-ffffffffffffffff", (Cause.ENGINE, True, Reason.DUPLICATE)),
        ("films", (Cause.ENGINE, False, None)),
        (None, (Cause.SOURCE, False, None)),
    ],
)
def test_what_is_refused_is_looked_up_by_its_infohash(
    answer: Answer, tags: str | None, said: tuple[Cause, bool, Reason | None], tmp_path: Path
) -> None:
    recorded, one = Recorded("2.15.1"), order(tmp_path)
    recorded.answers["torrents/add"] = lambda _: answer
    if tags is not None:
        shown(recorded, one, tags, save_path="/downloads/other")
    (fault,) = engine(recorded, tmp_path).submit([one])
    assert isinstance(fault, Fault)
    assert (fault.cause, fault.passing, fault.wait) == said


def test_what_is_taken_and_still_pending_is_waited_for(tmp_path: Path) -> None:
    recorded, one = Recorded("2.15.1"), order(tmp_path)
    adapter = engine(recorded, tmp_path)
    looks = iter(range(100))

    def look(_: dict[str, str]) -> Answer:
        if next(looks) == 3:
            shown(recorded, one, adapter.handle("t1", 1))
        return 200, {"rid": 1, "full_update": True, "torrents": recorded.rows, "server_state": {}}

    recorded.answers["sync/maindata"] = look
    recorded.answers["torrents/add"] = lambda _: (
        202,
        {"success_count": 0, "failure_count": 0, "pending_count": 1, "added_torrent_ids": []},
    )
    assert adapter.submit([one]) == [None]


def test_a_login_that_is_refused_with_a_status_is_not_tried_again(tmp_path: Path) -> None:
    recorded = Recorded("2.15.1")
    recorded.answers["auth/login"] = lambda _: (401, "Unauthorized")
    adapter = engine(recorded, tmp_path)
    for _ in range(3):
        with pytest.raises(Transient, match="user or password is wrong"):
            adapter.poll()
    assert recorded.paths() == ["auth/login"]


def test_a_server_that_never_keeps_a_login_is_asked_twice_a_call_and_no_more(tmp_path: Path) -> None:
    recorded = Recorded("2.15.1")
    recorded.answers["sync/maindata"] = lambda _: (403, "Forbidden")
    with pytest.raises(Transient, match="does not keep the login"):
        engine(recorded, tmp_path).poll()
    assert recorded.paths().count("auth/login") == recorded.paths().count("sync/maindata") == 2


@pytest.mark.parametrize("version", ["2.8.14", "2.2"])
def test_a_version_that_cannot_do_it_is_named(version: str, tmp_path: Path) -> None:
    recorded = Recorded(version)
    for _ in range(2):
        with pytest.raises(Transient, match=r"too old: 4\.5"):
            engine(recorded, tmp_path).poll()


@pytest.mark.parametrize(
    ("path", "answer"), [("app/webapiVersion", (200, "<html>")), ("sync/maindata", (200, "<html>")), ("sync/maindata", (200, "[]"))]
)
def test_an_answer_that_is_none_of_qbittorrent_is_transient(path: str, answer: Answer, tmp_path: Path) -> None:
    recorded = Recorded("2.11.4")
    recorded.answers[path] = lambda _: answer
    with pytest.raises(Transient, match="not one of qBittorrent"):
        engine(recorded, tmp_path).poll()
