"""Entries in a process: what goes first, what invalidates them, and that their bytes are counted truly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.coordination.cache.local import ENTRY_BYTES, Entry, Local
from worker.coordination.cache.marks import marks_of, prefixes_of
from worker.ports.cache import Kind, NoCache

#: Fills it three times over with values of many lengths, some with tags, and prints what it counts and what the process grew by.
GROWTH = """
import gc, os, random, sys
from worker.coordination.cache.local import Entry, Local
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
tags, chance, local = int(sys.argv[1]), random.Random(1), Local(40_000_000)
gc.collect()
before, number = resident(), 0
while local.bytes < 38_000_000 or number < 60_000:
    number += 1
    value = bytes(chance.randrange(200, 4_000))
    named = tuple(f"of:{chance.randrange(50_000)}" for _ in range(tags))
    local.put(f"job:{number:024d}", Entry(value, 1.0 + number, 2.0 + number, 3.0 + number, named))
gc.collect()
print(local.bytes, resident() - before)
"""


def put(local: Local, name: str, length: int = 100, *tags: str) -> None:
    local.put(name, Entry(b"x" * length, 0.0, 1.0, 1.0, tags))


def names(local: Local) -> list[str]:
    return list(local._entries)


@pytest.mark.parametrize("tags", [0, 1])
def test_its_bytes_are_what_the_process_grows_by_within_a_tenth(tags: int) -> None:
    ran = subprocess.run([sys.executable, "-c", GROWTH, str(tags)], capture_output=True, text=True, check=True, timeout=100)
    counted, grown = map(int, ran.stdout.split())
    print(f"counted {counted}, grown by {grown}: {grown / counted:.3f}")
    assert 0.9 <= grown / counted <= 1.1


def test_what_was_used_last_stays_and_the_bytes_never_exceed_the_bound() -> None:
    local = Local(20 * (ENTRY_BYTES + 300))
    for number in range(100):
        put(local, f"n:{number}")
        assert local.get("n:0") is not None
        assert local.bytes <= local.bytes_max
    assert names(local)[-1] == "n:0"
    assert "n:99" in names(local)
    assert "n:1" not in names(local)


def test_an_entry_that_is_put_again_counts_once() -> None:
    local = Local(1_000_000)
    put(local, "n:1", 5_000, "t")
    put(local, "n:1", 100)
    assert (len(local), local.bytes < 1_000) == (1, True)
    local.drop(["=t"])
    assert names(local) == ["n:1"], "the tag was of the entry before"


def test_marks_remove_what_has_them_and_nothing_else() -> None:
    local = Local(1_000_000)
    for name, tag in (("a:1", "u:1:x"), ("a:2", "u:2:x"), ("b:1", "u:1:y"), ("a1:1", "u1:x")):
        put(local, name, 10, tag)
    local.drop(["=u:2:x"])
    assert names(local) == ["a:1", "b:1", "a1:1"]
    local.drop(["=b:1"])
    assert names(local) == ["a:1", "a1:1"]
    local.drop(["^u:1:", "^nothing:"])
    assert names(local) == ["a1:1"]
    local.drop(["^"])
    assert (names(local), local.bytes, local._tagged) == ([], 0, {})


def test_nothing_is_kept_without_room() -> None:
    local = Local(0)
    put(local, "n:1")
    assert (len(local), local.bytes) == (0, 0)


def test_an_entry_has_a_mark_for_itself_its_tags_and_the_prefixes_of_both() -> None:
    assert prefixes_of("a:b:c:d:e") == ["a:", "a:b:", "a:b:c:"]
    assert marks_of("job:1", ["u:7:x", "all"]) == ("=job:1", "=u:7:x", "=all", "^", "^job:", "^u:", "^u:7:")
    assert marks_of("job:", ["job"]) == ("=job:", "=job", "^", "^job:")


def test_without_a_cache_everything_is_loaded_each_time() -> None:
    cache, loads = NoCache(), []
    kind = Kind("k", 1.0)
    for _ in range(2):
        assert cache.get(kind, "x", lambda: loads.append(1) or {"a": 1}) == {"a": 1}
    assert cache.text(kind, "x", lambda: {"a": None}) == b'{"a":null}'
    cache.invalidate(keys=[(kind, "x")])
    assert (len(loads), cache.flush(0.0), cache.stats().entries) == (2, True, 0)
