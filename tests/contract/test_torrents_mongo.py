"""`.torrent` files in a MongoDB store: the contract, lost answers, and its index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.contract.store_jobs import a_job, described, some_jobs
from tests.contract.store_suite import Opener
from tests.contract.store_unnamed import DOCUMENT, KeptTorrents, naming, noted_before, notes
from tests.mongo_proxy import MongoProxy, mongo_proxy
from tests.mongodb import with_options
from worker.jobs.errors import Transient
from worker.ports import JobStore
from worker.store import open_store
from worker.store.mongo import queries, torrents
from worker.store.mongo.collection import MongoCollection
from worker.store.mongo.store import MongoStore


@pytest.fixture
def opener(mongo_url: str) -> Opener:
    return partial(open_store, with_options(mongo_url, "maxPoolSize=30"))


@pytest.fixture
def store(opener: Opener) -> Iterator[MongoStore]:
    with closing(opener()) as store:
        assert isinstance(store, MongoStore)
        yield store


class TestContract(KeptTorrents):
    races = 10

    @contextmanager
    def amid(self, store: JobStore, then: Callable[[], object]) -> Iterator[None]:
        assert isinstance(store, MongoStore)
        delete = MongoCollection.delete
        done = []

        def overtaken(collection: MongoCollection, wheres: list[dict[str, Any]]) -> int:
            assert wheres, "it was about to be removed"
            done.append(then())
            return delete(collection, wheres)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MongoCollection, "delete", overtaken)
            yield
        assert done


@pytest.fixture
def proxy(mongo_url: str) -> Iterator[MongoProxy]:
    url = urlsplit(mongo_url)
    if "," in url.netloc or "+" in url.scheme or "tls" in url.query:
        pytest.skip("the proxy stands before one server that speaks in the clear")
    with mongo_proxy(url.netloc.rpartition("@")[2]) as proxy:
        yield proxy


@pytest.fixture
def far(mongo_url: str, proxy: MongoProxy) -> Iterator[JobStore]:
    """The store, seen through the proxy, without the driver's own repetitions, which only a replica set would have."""
    url = urlsplit(mongo_url)
    login, at, _ = url.netloc.rpartition("@")
    options = "serverMonitoringMode=poll&directConnection=true&retryWrites=false&retryReads=false"
    with closing(open_store(with_options(urlunsplit(url._replace(netloc=f"{login}{at}{proxy.address}")), options))) as store:
        yield store


def test_a_file_is_kept_though_it_is_removed_between_the_two_writes_of_whoever_keeps_it_again(
    far: JobStore, proxy: MongoProxy, store: JobStore
) -> None:
    name = store.keep_torrent(DOCUMENT)
    before = noted_before(store, name)
    removed = []
    proxy.hold("update", lambda: removed.append(store.forget_torrents([name], before)))
    assert far.keep_torrent(DOCUMENT) == name
    assert removed == [1]
    assert store.torrents([name]) == {name: DOCUMENT}
    assert notes(store, name) == {name: None}


def test_a_file_whose_reply_was_lost_is_kept_and_has_no_note(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    proxy.lose_reply("insert")
    name = far.keep_torrent(DOCUMENT)
    assert proxy.idle
    assert store.torrents([name]) == {name: DOCUMENT}
    assert notes(store, name) == {name: None}


def test_a_removal_whose_reply_was_lost_was_made_and_tells_fewer(far: JobStore, proxy: MongoProxy, store: JobStore) -> None:
    name = store.keep_torrent(DOCUMENT)
    before = noted_before(store, name)
    proxy.lose_reply("delete")
    assert far.forget_torrents([name], before) == 0
    assert proxy.idle
    assert store.torrents([name]) == {}


def test_a_file_that_goes_again_and_again_while_it_is_kept_is_a_passing_fault(store: MongoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    monkeypatch.setattr(MongoCollection, "add", lambda _, rows: tries.append(1) or [row["_id"] for row in rows])
    monkeypatch.setattr(MongoCollection, "update", lambda *_: 0)
    with pytest.raises(Transient, match="was removed while it was kept again"):
        store.keep_torrent(DOCUMENT)
    assert len(tries) == torrents.KEEP_TRIES


def test_jobs_that_name_a_file_are_found_by_an_index_of_those_alone(store: MongoStore) -> None:
    found = store._connection.collection(queries.JOBS).index_information()["jobs_document"]
    assert [key for key, _ in found["key"]] == list(torrents.naming(["a"]))
    assert dict(found["partialFilterExpression"]) == {"description.document": {"$exists": True}}
    store.insert(some_jobs(3))
    naming(store, "a", "0" * 64)
    rows = store._connection.collection(queries.JOBS).find({}, {"description": 1})
    assert sum("document" in (row.get("description") or {}) for row in rows) == 1, "a job without a file is not in it"


def test_the_server_goes_by_indexes_to_look_at_files_and_who_names_them(store: MongoStore) -> None:
    if "secantus" in store._connection.command("serverStatus"):
        pytest.skip("SecantusDB plans in its own way; set HAUL_TEST_MONGODB_URL")
    name = store.keep_torrent(DOCUMENT)
    naming(store, "a", name)
    store.insert([a_job("k"), described(a_job("l"), name)])
    database = store._connection.database
    for collection, pipeline in ((queries.JOBS, torrents.named_by_jobs([name])), (queries.TORRENTS, torrents.names_behind("", 9))):
        command = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
        plan = str(database.command("explain", command, verbosity="queryPlanner"))
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan
        assert collection == queries.JOBS or "'FETCH'" not in plan, "by name alone: each file may have 10 MB"
