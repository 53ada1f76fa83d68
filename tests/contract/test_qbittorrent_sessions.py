"""The adapter's session at a real qBittorrent: shared by threads, and lost at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.counting import Counting
from tests.contract.qbittorrent import QbittorrentHarness
from worker.jobs.errors import Transient

THREADS = 8


@pytest.fixture
def counting(qbittorrent: QbittorrentHarness) -> Iterator[Counting]:
    with Counting(qbittorrent.port) as counting:
        yield counting


def test_threads_that_begin_at_once_share_one_login_and_none_is_refused(qbittorrent: QbittorrentHarness, counting: Counting) -> None:
    fresh = qbittorrent.another(port=counting.port)
    for logins in (1, 2):
        with ThreadPoolExecutor(THREADS) as pool:
            assert [poll.items for poll in pool.map(lambda _: fresh.poll(), range(THREADS))] == [{}] * THREADS
        assert counting.requests["/api/v2/auth/login"] == logins
        fresh._session._client._session.cookies.clear()  # as if it had been started again


def test_a_session_that_is_lost_before_its_first_question_is_no_ban(
    qbittorrent: QbittorrentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = qbittorrent.another()
    client = fresh._session._client
    log_in = client.auth_log_in

    def log_in_and_lose(**arguments: Any) -> Any:
        log_in(**arguments)
        client._session.cookies.clear()

    with monkeypatch.context() as losing:
        losing.setattr(client, "auth_log_in", log_in_and_lose)
        with pytest.raises(Transient, match="does not keep the login"):
            fresh.poll()
    assert fresh.poll().items == {}, "the next look is let in"
