"""Bad input that only shows later."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import Stack, story
from tests.e2e.torrents.cases import each
from tests.e2e.torrents.doors import Asked
from tests.torrents import Seeder, pack


@each
@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<!DOCTYPE html><html><body>please log in</body></html>", "torrent"),
        (bytes(10_000_001), "10000000 bytes"),
        (pack().document[:500], "torrent"),
    ],
    ids=["a web page", "too large", "cut"],
)
def test_what_a_torrent_address_gives_that_is_no_torrent_is_told_the_user(
    both: Stack, user: str, document: bytes, words: str, engine: str
) -> None:
    url = both.origin.document(f"{user}.torrent", document)
    job = both.until(both.ask(url, user, engine=engine), "failed")

    assert (job.cause, job.attempt) == ("source", 1), story(job)
    assert words in (job.message or "")
    assert both.origin.requests[f"/doc/{user}.torrent"] == 1
    assert both.told(job.id) == ["job.queued", "job.failed"]


@each
def test_a_selection_outside_the_torrent_that_is_found_later_is_told_the_user(
    both: Stack, asked: dict[tuple[str, str], Asked], user: str, tmp_path: Path, engine: str
) -> None:
    made = pack(name=user, trackers=(both.origin.url("announce"),))
    url = both.origin.document(f"{user}.torrent", made.document)
    by_url = both.until(both.ask(url, user, engine=engine, select="1,9"), "failed")
    assert (by_url.cause, by_url.attempt) == ("source", 1)
    assert "no file 9" in (by_url.message or "")

    with Seeder(newest_aria2c_program(), tmp_path, both.origin, made):
        by_magnet = both.until(both.ask(made.magnet(), user, engine=engine, select="1,9"), "failed")
    assert (by_magnet.cause, by_magnet.attempt) == ("source", 1), story(by_magnet)
    assert "selected" in (by_magnet.message or "")
