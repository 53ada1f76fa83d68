"""Which requests ask for the same content."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from tests.torrents import pack
from worker.jobs import content
from worker.jobs.model import Job, Request, Source, SourceKind, Transfer, new_job
from worker.jobs.probe import Probe
from worker.jobs.requests import source
from worker.jobs.states import Reason, State, Want
from worker.jobs.torrents import describe

TAG = Probe(1_000, '"tag"', None)
BTIH, BTMH = "ab" * 20, "cd" * 32


def asked(uri: str, user: str = "u", probe: Probe | None = TAG, **request: Any) -> Job:
    return replace(new_job(Request(source(uri), user, **request), 0.0), probe=probe)


def torrent(version: Any, **request: Any) -> Job:
    document = pack({"a": b"x" * 40_000}, name="a", single=True, version=version).document
    return new_job(Request(Source(SourceKind.TORRENT, "https://host/a.torrent"), "u", description=describe(document), **request), 0.0)


def alike(one: Job, other: Job) -> bool:
    return bool(set(content.keys(one)) & set(content.keys(other)))


@pytest.mark.parametrize(
    "uri",
    ["HTTPS://Host/f?q=1", "https://host:443/f?q=1", "https://host/f?q=1#part", "https://HOST:443/f?q=1#"],
)
def test_the_same_address_is_one_however_it_is_written(uri: str) -> None:
    assert alike(asked("https://host/f?q=1"), asked(uri, "another user"))


@pytest.mark.parametrize(
    "uri",
    ["http://host/f?q=1", "https://host:444/f?q=1", "https://host/F?q=1", "https://host/f?q=2", "https://host/f", "https://host/%66?q=1"],
)
def test_another_scheme_port_path_or_query_is_another_address(uri: str) -> None:
    assert not alike(asked("https://host/f?q=1"), asked(uri))


@pytest.mark.parametrize(
    ("probe", "shared"),
    [
        (TAG, True),
        (Probe(1_000, '"other"', None), False),
        (Probe(1_001, '"tag"', None), False),
        (Probe(1_000, None, "Wed, 01 Jan 2025 00:00:00 GMT"), False),
        (Probe(), False),
        (None, False),
    ],
)
def test_an_address_is_the_same_content_while_its_validator_is(probe: Probe | None, shared: bool) -> None:
    assert alike(asked("https://host/f"), asked("https://host/f", probe=probe)) is shared


def test_size_and_time_serve_as_a_validator_and_neither_does_alone() -> None:
    both = Probe(5, None, "Wed, 01 Jan 2025 00:00:00 GMT")
    assert alike(asked("https://host/f", probe=both), asked("https://host/f", probe=both))
    for part in (replace(both, size=None), replace(both, modified=None)):
        assert not content.keys(asked("https://host/f", probe=part))


def test_an_address_without_a_validator_is_never_shared() -> None:
    assert content.keys(asked("https://host/f", probe=None)) == ()
    assert content.keys(asked("https://host/f", probe=Probe())) == ()


def test_an_address_with_a_password_is_shared_with_its_own_user_alone() -> None:
    uri, digest = "https://name:word@host/f", "a" * 64
    assert alike(asked(uri, "ann"), asked(uri, "ann"))
    assert not alike(asked(uri, "ann"), asked(uri, "bob"))
    assert not alike(asked(uri, "ann", sha256=digest), asked(uri, "bob", sha256=digest))
    assert not alike(asked(uri, "ann", sha256=digest), asked("https://host/f", "bob", sha256=digest))


def test_a_checksum_is_the_content_wherever_it_comes_from() -> None:
    one, other = asked("https://host/f", probe=None, sha256="a" * 64), asked("ftp://elsewhere/g", probe=None, sha256="a" * 64)
    assert alike(one, other)
    assert not alike(one, asked("https://host/f", probe=None, sha256="b" * 64))


def test_a_checksum_alone_gives_nobody_what_lies_behind_a_secret_query() -> None:
    secret = asked("https://host/f?token=1", "ann", sha256="a" * 64)
    assert not alike(secret, asked("https://host/f", "bob", sha256="a" * 64))
    assert alike(secret, asked("https://host/f?token=1", "bob", sha256="a" * 64))


def test_a_magnet_link_and_a_torrent_file_of_one_infohash_are_the_same() -> None:
    found = torrent("v1")
    assert found.description is not None
    assert found.description.v1 is not None
    spelt = base64.b32encode(bytes.fromhex(found.description.v1)).decode()
    for topic in (found.description.v1, found.description.v1.upper(), spelt, spelt.lower()):
        assert alike(found, asked(f"magnet:?dn=x&xt=urn:btih:{topic}&tr=http%3A%2F%2Fhost", "bob"))
    assert not alike(found, asked(f"magnet:?xt=urn:btih:{BTIH}"))


def test_a_hybrid_is_the_same_as_a_link_of_either_version() -> None:
    found = torrent("hybrid")
    assert found.description is not None
    assert alike(found, asked(f"magnet:?xt=urn:btih:{found.description.v1}"))
    assert alike(found, asked(f"magnet:?xt=urn:btmh:1220{found.description.v2}"))
    assert len(content.keys(found)) == content.KEYS_MAX


@pytest.mark.parametrize("other", [{"select": (1,)}, {"seed_ratio": 2.0}, {"guarded": False}])
def test_other_files_other_seeding_and_other_rights_are_another_download(other: dict[str, Any]) -> None:
    link = f"magnet:?xt=urn:btih:{BTIH}"
    assert not alike(asked(link), asked(link, **other))
    assert alike(asked(link, **other), asked(link, "bob", **other))
    assert alike(asked(link), asked(link, seed_ratio=0.0))


def test_a_name_a_directory_and_a_priority_of_his_own_is_no_other_content() -> None:
    assert alike(asked("https://host/f"), asked("https://host/f", name="x", out="/y", priority=5, tier="vip", hash_wanted=True))


def test_a_metalink_is_not_told_by_its_own_validator() -> None:
    assert content.keys(asked("https://host/f.meta4")) == ()


def leader(**changes: Any) -> Job:
    job = asked("https://host/f")
    return replace(job, transfer=Transfer(job.id, "aria2", 1, "/w", 0.0), **changes)


def test_a_job_waits_for_no_engine_but_the_one_it_names() -> None:
    assert content.shares(asked("https://host/f"), leader())
    assert content.shares(asked("https://host/f", engine="aria2"), leader())
    assert not content.shares(asked("https://host/f", engine="qbittorrent"), leader())
    assert not content.shares(asked("https://host/f"), asked("https://host/f"))


def test_two_checksums_are_two_contents_and_one_is_left_to_be_verified() -> None:
    assert content.shares(asked("https://host/f", sha256="a" * 64), leader())
    assert content.shares(asked("https://host/f", sha256="a" * 64), leader(sha256="a" * 64))
    assert not content.shares(asked("https://host/f", sha256="a" * 64), leader(sha256="b" * 64))


def test_a_transfer_is_taken_over_by_who_names_its_address_only() -> None:
    digest = "a" * 64
    assert content.may_take_over(asked("HTTPS://host:443/f", sha256=digest), leader(sha256=digest))
    assert not content.may_take_over(asked("https://mirror/f", sha256=digest), leader(sha256=digest))
    assert not content.may_take_over(replace(asked("https://host/f"), attempt=2), leader())


def test_nobody_waits_for_what_is_to_stop() -> None:
    running = leader(state=State.DOWNLOADING)
    assert content.leads(running)
    for want in (Want.PAUSE, Want.CANCEL):
        assert not content.leads(replace(running, want=want))
        assert content.goes_on(replace(running, want=want)), "its owner hands it over"
    assert not content.goes_on(replace(running, state=State.PAUSED, want=Want.PAUSE))
    assert not content.goes_on(replace(running, state=State.FAILED))
    assert not content.goes_on(replace(running, transfer=None))


@pytest.mark.parametrize(("reason", "waits"), [(Reason.TURN, False), (Reason.RATE, False), (Reason.SCHEDULE, True), (Reason.SLOTS, True)])
def test_nobody_waits_for_the_turn_or_the_limits_of_another_user(reason: Reason, waits: bool) -> None:
    queued = leader(reason=reason)
    assert (content.leads(queued), content.goes_on(queued)) == (waits, waits)


def test_what_is_no_address_has_no_name() -> None:
    job = new_job(Request(Source(SourceKind.HTTP, "http://[::1"), "u", sha256="a" * 64), 0.0)
    assert content.keys(job) == ()
    assert content.keys(new_job(Request(Source(SourceKind.MAGNET, "magnet:?xt=urn:btih:nothing"), "u"), 0.0)) == ()
