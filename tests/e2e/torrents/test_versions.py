"""Torrents of the second version, and which engine speaks it."""

from __future__ import annotations

from tests.e2e.stack import Stack
from tests.e2e.torrents.doors import Asked, check_in_place, upload
from tests.torrents import pack, web_seeded
from worker import pipeline
from worker.jobs.errors import Rejected
from worker.jobs.requests import parse


def test_a_torrent_of_the_second_version_goes_to_the_engine_that_speaks_it(both: Stack, user: str) -> None:
    one, other = (web_seeded(both.origin, pack(name=f"{user} {n}", version="v2")) for n in range(2))
    by_url = both.ask(both.origin.document(f"{user}.torrent", other.document), user)
    by_upload = both.ask(None, user, torrent=upload(one))

    for asked in (Asked(by_upload, one), Asked(by_url, other)):
        check_in_place(both, asked)
        transfer = both.job(asked.id).transfer
        assert transfer is not None
        assert transfer.engine == "qbittorrent"


def test_a_torrent_of_the_second_version_for_an_engine_that_does_not_speak_it_is_refused_in_words(both: Stack, user: str) -> None:
    made = pack(name=user, version="v2")

    for source in ({"torrent": upload(made)}, {"uri": made.magnet()}):
        [answer] = pipeline.accept(both.services, [parse({"user": user, "engine": "aria2", **source})])
        assert isinstance(answer, Rejected)
        assert "aria2" in str(answer)
        assert answer.fix

    url = both.origin.document(f"{user}.torrent", made.document)
    job = both.until(both.ask(url, user, engine="aria2"), "failed")
    assert "aria2" in (job.message or "")
