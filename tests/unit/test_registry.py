"""Addresses in HAUL_ENGINES become engines, or a message that says what to change and never the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.engines.registry import build_engines
from worker.settings import SettingsError

VOLUME = Path("/downloads")
SECRET = "s3cr3t"


def build(*addresses: str):
    return build_engines(addresses, directory=VOLUME, slots=7)


def test_an_address_alone_takes_the_defaults() -> None:
    (engine,) = build(f"aria2+http://:{SECRET}@host:6800/jsonrpc").values()
    assert (engine.name, engine.directory, engine.slots) == ("aria2", "/downloads", 7)


def test_an_address_of_qbittorrent_takes_its_defaults_and_its_user() -> None:
    (engine,) = build(f"qbittorrent+http://a%40b:{SECRET}@host").values()
    session = engine._session  # type: ignore[attr-defined]
    assert (engine.name, engine.directory, engine.slots) == ("qbittorrent", "/downloads", 7)
    assert (session.url, session._user, session._secret) == ("http://host:8080", "a@b", SECRET)


def test_an_address_of_qbittorrent_keeps_its_scheme_port_and_path() -> None:
    (engine,) = build(f"qbittorrent+https://u:{SECRET}@[::1]:443/qb/?name=far").values()
    assert engine._session.url == "https://[::1]:443/qb"  # type: ignore[attr-defined]


def test_engines_of_both_kinds_are_named_and_numbered_apart() -> None:
    assert list(build("aria2+http://a", "qbittorrent+http://b", "aria2+http://c", "qbittorrent+http://d")) == [
        *("aria2", "qbittorrent", "aria2-2", "qbittorrent-2")
    ]


def test_the_options_of_an_address_go_before_the_defaults() -> None:
    engines = build(f"aria2+http://:{SECRET}@host:6800/jsonrpc?name=fast&slots=3&dir=/mnt/fast")
    assert {name: (engine.directory, engine.slots) for name, engine in engines.items()} == {"fast": ("/mnt/fast", 3)}


def test_engines_without_a_name_are_numbered_in_their_order() -> None:
    engines = build(*[f"aria2+http://:{SECRET}@host{n}/jsonrpc" for n in range(3)])
    assert list(engines) == ["aria2", "aria2-2", "aria2-3"]
    assert all(engine.name == name for name, engine in engines.items())


def test_the_secret_is_taken_out_of_the_url_and_unquoted() -> None:
    (engine,) = build("aria2+https://:a%40b%2Fc@[::1]:6801/rpc").values()
    client = engine._rpc._client  # type: ignore[attr-defined]
    assert (client.server, client.secret) == ("https://[::1]:6801/rpc", "a@b/c")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"qbittorrent+http://admin:{SECRET}@:8080", "write qbittorrent+http://user:password@host:8080"),
        (f"deluge+http://:{SECRET}@host", "scheme is unknown"),
        (f"http://:{SECRET}@host:6800/jsonrpc", "scheme is unknown"),
        (SECRET, "scheme is unknown"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?wait=3", "no option wait"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?weight=0", "weight is out of range"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?{SECRET}", "not a valid address"),
        (f"aria2+http://:{SECRET}@host:{SECRET}/jsonrpc", "not a valid address"),
        (f"aria2+http://:{SECRET}@/jsonrpc", "has no host"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?slots=0", "slots is out of range"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?slots={SECRET}", "slots is out of range"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?dir=down/{SECRET}", "dir is not an absolute path"),
        (f"aria2+http://:{SECRET}@host/jsonrpc?name=../{SECRET}", "name is not usable"),
    ],
)
def test_a_wrong_address_is_named_with_its_fix_and_without_its_secret(address: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        build(f"aria2+http://:{SECRET}@first/jsonrpc", address)
    assert str(refused.value).startswith("HAUL_ENGINES: engine 2: ")
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


def test_two_engines_cannot_have_one_name() -> None:
    with pytest.raises(SettingsError, match="name a is taken"):
        build("aria2+http://:x@one/jsonrpc?name=a", "aria2+http://:x@two/jsonrpc?name=a")
