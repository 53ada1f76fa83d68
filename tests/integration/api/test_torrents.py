"""A `.torrent` file in the body of a request."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import httpx
import pytest

from tests.integration.api.caller import add, problem
from tests.torrents import bencode, pack
from worker.admission import space
from worker.jobs.torrents import TORRENT_BYTES_MAX
from worker.limits import SPACE_RESERVE_BYTES
from worker.ports import Services


def test_a_torrent_file_is_a_job_and_its_infohash_and_files_are_shown(http: httpx.Client, services: Services) -> None:
    made = pack(version="hybrid")
    answer = add(http, uri=None, torrent=base64.b64encode(made.document).decode(), key="t", select="1,3")
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["kind"], shown["infohash"], shown["files"], shown["total_bytes"]) == (
        "torrent",
        made.v1,
        3,
        sum(map(len, list(made.files.values())[:2])),
    )
    whole = add(http, uri=None, torrent=base64.b64encode(made.document).decode()).json()
    assert whole["total_bytes"] == made.size
    assert whole["source"] == f"torrent:{hashlib.sha256(made.document).hexdigest()}"
    again = add(http, uri=None, torrent=base64.b64encode(made.document).decode(), key="t", select="1,3")
    assert (again.status_code, again.json()["id"]) == (200, shown["id"])
    problem(add(http, uri=None, torrent=base64.b64encode(pack().document).decode(), key="t", select="1,3"), 409, "key")


def test_a_torrent_that_no_disk_here_can_hold_is_507_in_words(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pack(version="hybrid")
    document = base64.b64encode(made.document).decode()
    monkeypatch.setattr(space, "_seen", lambda _path: (1, space.Volume(SPACE_RESERVE_BYTES + made.size - 1, made.size)))
    found = problem(add(http, uri=None, torrent=document), 507, "torrent")
    assert "and the disk has room for" in found["detail"]
    assert "select" in found["fix"]
    assert add(http, uri=None, torrent=document, select="1").status_code == 201


def test_a_torrent_file_of_the_largest_size_is_taken_and_one_byte_more_is_refused(http: httpx.Client, services: Services) -> None:
    hashes = b"x" * 9_999_800
    info = {"name": "large", "piece length": 16_384, "length": 16_384 * (len(hashes) // 20), "pieces": hashes}
    document = bencode({"info": info})
    most = document + b" " * (TORRENT_BYTES_MAX - len(document))
    assert add(http, uri=None, torrent=base64.b64encode(most).decode()).status_code == 201
    problem(add(http, uri=None, torrent=base64.b64encode(most + b" ").decode()), 422, "torrent")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"uri": None}, "uri"),
        ({"torrent": "YWJj"}, "torrent"),
        ({"uri": None, "torrent": "YWJj"}, "torrent"),
        ({"uri": None, "torrent": "no base64!"}, "torrent"),
        ({"uri": None, "torrent": 7}, "torrent"),
        ({"uri": None, "torrent": base64.b64encode(pack().document).decode(), "select": "9"}, "select"),
    ],
)
def test_a_torrent_that_cannot_be_taken_is_422_and_recorded_nowhere(empty: tuple[httpx.Client, Services], spec: Any, field: str) -> None:
    problem(add(empty[0], **spec), 422, field)
    assert empty[1].store.counts() == {}
