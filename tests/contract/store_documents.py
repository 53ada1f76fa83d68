"""The `.torrent` documents that are kept beside the records."""

from __future__ import annotations

import hashlib
import random

import pytest

from tests.contract.store_suite import Opener, StoreFixtures
from worker.jobs.torrents import TORRENT_BYTES_MAX
from worker.ports import JobStore


class DocumentSuite(StoreFixtures):
    def test_a_torrent_is_kept_under_the_hash_of_its_bytes_for_everybody(self, store: JobStore, opener: Opener) -> None:
        name = store.keep_torrent(b"d4:infod4:name1:aee")
        assert name == hashlib.sha256(b"d4:infod4:name1:aee").hexdigest()
        other = opener()
        assert other.torrents([name]) == {name: b"d4:infod4:name1:aee"}
        other.close()

    def test_a_torrent_given_again_is_kept_once(self, store: JobStore) -> None:
        first, other = store.keep_torrent(b"a"), store.keep_torrent(b"b")
        assert store.keep_torrent(b"a") == first
        assert store.torrents([first, other, first]) == {first: b"a", other: b"b"}

    def test_names_of_no_torrent_are_absent(self, store: JobStore) -> None:
        name = store.keep_torrent(b"a")
        assert store.torrents([name, "0" * 64, ""]) == {name: b"a"}
        assert store.torrents([]) == {}

    @pytest.mark.parametrize("size", [0, 2 * 1024 * 1024, TORRENT_BYTES_MAX])
    def test_a_torrent_of_any_bytes_comes_back_as_it_was(self, store: JobStore, size: int) -> None:
        document = random.Random(size).randbytes(size)
        name = store.keep_torrent(document)
        assert store.torrents([name]) == {name: document}
