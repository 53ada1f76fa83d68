"""What every `JobStore` promises about `.torrent` files that no job names: they go, and never one that is named in a moment.

Used as `store_suite` is; an implementation says how something is done in the middle of a removal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace

import pytest

from tests.contract.store_jobs import NOW, WAIT_S, a_job, a_torrent_job, change, described, until
from tests.contract.store_suite import Opener, StoreFixtures
from worker.jobs.description import Description
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import JobStore

DOCUMENT = b"d4:infod4:name1:aee"


def noted_before(store: JobStore, *names: str) -> float:
    """Have it noted that no job names these; a time of the store's clock at which all notes are old."""
    assert store.forget_torrents(names, 0.0) == 0
    until(lambda: all(since is not None and store.now() > since + 0.002 for since in notes(store, *names).values()))
    return store.now()


def notes(store: JobStore, *names: str) -> dict[str, float | None]:
    """The notes of these files; one that jobs name has none."""
    unnamed = store.unnamed_torrents(1_000).unnamed
    return {name: unnamed[name] for name in names if name in unnamed}


def naming(store: JobStore, key: str, name: str) -> Job:
    """A recorded job that names the file."""
    job = described(a_torrent_job(key), name)
    assert store.insert([job])[0].created
    return job


def forgotten(store: JobStore, job: Job) -> None:
    """The job ends, and retention forgets it."""
    ended = change(store, job, job.moved(State.CANCELLED, NOW, "cancelled"))
    store.mark_sent({job.id: ended.version})
    assert store.remove([ended]) == 1


class KeptTorrents(StoreFixtures):
    #: How often a door and a removal race for one file.
    races = 40

    def amid(self, store: JobStore, then: Callable[[], object]) -> AbstractContextManager[None]:
        """While this is open the store's next removal has `then` come in between its look and its removal."""
        raise NotImplementedError

    @pytest.fixture
    def other(self, opener: Opener) -> Iterator[JobStore]:
        """The same store, as another process has it."""
        with closing(opener()) as other:
            yield other

    def test_a_file_that_no_job_names_is_noted_first_and_goes_when_that_is_old(self, store: JobStore, other: JobStore) -> None:
        name, fresh = store.keep_torrent(DOCUMENT), store.keep_torrent(b"b")
        assert notes(store, name, fresh) == {name: None, fresh: None}
        before = noted_before(store, name)
        assert store.forget_torrents([name, fresh], before - 60) == 0
        assert store.forget_torrents([name, fresh], before) == 1
        assert other.torrents([name, fresh]) == {fresh: b"b"}
        assert list(notes(other, name, fresh)) == [fresh]
        assert store.forget_torrents([name], before) == 0

    def test_looking_writes_nothing(self, store: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        for _ in range(2):
            assert store.unnamed_torrents(9).unnamed == {name: None}

    def test_a_note_says_since_when_and_stays_as_it_is(self, store: JobStore) -> None:
        begun = store.now()
        name = store.keep_torrent(DOCUMENT)
        noted_before(store, name)
        [since] = notes(store, name).values()
        assert since is not None
        assert begun - 0.01 <= since <= store.now()
        store.forget_torrents([name], since)
        assert notes(store, name) == {name: since}

    def test_a_file_that_a_job_names_stays_until_its_last_job_is_forgotten(self, store: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        jobs = [naming(store, "a", name), naming(store, "b", name)]
        store.insert([a_job("names none")])
        for job in jobs:
            assert notes(store, name) == {}
            assert store.forget_torrents([name], store.now() + 60) == 0
            forgotten(store, job)
        assert notes(store, name) == {name: None}
        assert store.forget_torrents([name], noted_before(store, name)) == 1

    def test_a_job_that_has_ended_and_is_remembered_names_its_file(self, store: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        job = naming(store, "a", name)
        change(store, job, job.moved(State.CANCELLED, NOW, "cancelled"))
        assert notes(store, name) == {}
        assert store.forget_torrents([name], store.now() + 60) == 0
        assert store.torrents([name])

    def test_a_file_fetched_for_a_job_is_named_from_that_change_on(self, store: JobStore) -> None:
        job = a_torrent_job("by URL")
        store.insert([job])
        name = store.keep_torrent(DOCUMENT)
        assert notes(store, name) == {name: None}
        change(store, job, described(job, name))
        assert notes(store, name) == {}

    def test_a_file_that_another_took_the_place_of_is_named_no_more(self, store: JobStore) -> None:
        first, second = store.keep_torrent(DOCUMENT), store.keep_torrent(b"without a tracker")
        job = naming(store, "a", first)
        assert isinstance(job.description, Description)
        change(store, job, job.noted(NOW, "left out", description=replace(job.description, document=second)))
        assert notes(store, first, second) == {first: None}

    def test_keeping_a_file_again_takes_the_note_away(self, store: JobStore, other: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        before = noted_before(store, name)
        assert other.keep_torrent(DOCUMENT) == name
        assert notes(store, name) == {name: None}
        assert store.forget_torrents([name], before) == 0
        assert store.torrents([name]) == {name: DOCUMENT}

    def test_a_file_that_went_is_kept_again_as_a_new_one(self, store: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        assert store.forget_torrents([name], noted_before(store, name)) == 1
        assert store.keep_torrent(DOCUMENT) == name
        assert store.torrents([name]) == {name: DOCUMENT}
        assert notes(store, name) == {name: None}

    def test_all_files_are_looked_at_page_after_page(self, store: JobStore) -> None:
        names = [store.keep_torrent(b"%d" % number) for number in range(7)]
        for name in names[:4]:
            naming(store, name, name)
        seen, cursor = [], None
        for _ in range(9):
            page = store.unnamed_torrents(2, after=cursor)
            seen += page.unnamed
            cursor = page.cursor
            if cursor is None:
                break
        assert cursor is None
        assert seen == sorted(names[4:])
        assert store.unnamed_torrents(0) == store.unnamed_torrents(9, after="g" * 64)

    def test_nothing_to_forget_and_unknown_names_are_nothing(self, store: JobStore) -> None:
        assert store.forget_torrents([], store.now()) == 0
        assert store.forget_torrents(["0" * 64], store.now()) == 0
        assert store.unnamed_torrents(9).unnamed == {}

    def test_a_job_that_is_recorded_after_the_look_keeps_its_file(self, store: JobStore, other: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        before = noted_before(store, name)
        looked = store.unnamed_torrents(9).unnamed
        other.keep_torrent(DOCUMENT)
        assert store.forget_torrents(looked, before) == 0, "its job is not recorded yet"
        naming(other, "late", name)
        assert store.forget_torrents(looked, store.now() + 60) == 0
        assert other.torrents([name]) == {name: DOCUMENT}

    def test_a_file_that_is_kept_between_the_look_of_a_removal_and_its_end_is_there(self, store: JobStore, other: JobStore) -> None:
        name = store.keep_torrent(DOCUMENT)
        before = noted_before(store, name)

        def door() -> None:
            other.keep_torrent(DOCUMENT)
            naming(other, "late", name)

        with self.amid(store, door):
            store.forget_torrents([name], before)
        assert other.get([a_torrent_job("late").id])
        assert other.torrents([name]) == {name: DOCUMENT}
        assert notes(other, name) == {}

    def test_whoever_kept_a_file_has_it_however_a_removal_races_with_it(self, store: JobStore, other: JobStore) -> None:
        name, start = store.keep_torrent(DOCUMENT), threading.Barrier(2)
        lost = []
        for _ in range(self.races):
            before = noted_before(store, name)

            def keep() -> None:
                start.wait(WAIT_S)
                other.keep_torrent(DOCUMENT)
                lost.append(not other.torrents([name]))

            keeper = threading.Thread(target=keep)
            keeper.start()
            start.wait(WAIT_S)
            store.forget_torrents([name], before)
            keeper.join(WAIT_S)
        assert lost == [False] * self.races
