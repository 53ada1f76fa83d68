"""What becomes of the address of a MongoDB: its database, its options and ours, and what is refused without a server."""

from __future__ import annotations

from typing import Any

import pytest

from worker.settings import SettingsError
from worker.store import open_store
from worker.store.mongo.address import OPTIONS, client_of, database_name


def options(url: str, profile: str = "production") -> Any:
    client = client_of(url, OPTIONS[profile])
    client.close()
    return client.options


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("mongodb://host", "haul"),
        ("mongodb://host/", "haul"),
        ("mongodb://host?tls=true", "haul"),
        ("mongodb://host/?tls=true", "haul"),
        ("mongodb://host/downloads", "downloads"),
        ("mongodb://u:p%2Fw@a:1,b:2,[::1]:3/downloads?replicaSet=rs0", "downloads"),
        ("mongodb+srv://u:p@cluster.example/one%2Dtwo_3", "one-two_3"),
    ],
)
def test_the_database_is_the_path_of_the_address_or_haul(url: str, name: str) -> None:
    assert database_name(url) == name


@pytest.mark.parametrize("name", ["a.b", "a b", "a$b", "a/b", "a%2Fb", "a%5Cb", "a%22b", "a%00b", "a*b", "x" * 64, "ü" * 32])
def test_a_name_no_database_can_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL: .* cannot be the name of a database; use letters"):
        open_store(f"mongodb://user:hunter2@host/{name}")


@pytest.mark.parametrize("name", ["admin", "config", "local"])
def test_a_database_of_the_servers_own_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"HAUL_STORE_URL: '{name}' is the server's own database; .*authSource={name}"):
        open_store(f"mongodb://host/{name}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mongodb://", "host"),
        ("mongodb:///haul", "host"),
        ("mongodb://host:port/haul", "Port contains non-digit"),
        ("mongodb://host:99999/haul", "Port must be an integer"),
        ("mongodb://host/haul?tlz=true", "Unknown option: tlz"),
        ("mongodb://host/haul?timeoutMS=soon", "timeoutms must be an integer"),
        ("mongodb://host/haul?replicaSet", "key=value pairs"),
        ("mongodb://host/haul?tls=true&tlsCAFile=/no/such/file", "/no/such/file"),
        ("mongodb://host/haul?w=0", "with w=0"),
        ("mongodb://host/haul?w=0&journal=false", "with w=0"),
        ("mongodb://user:hun/ter2@host/haul", "percent-encoded"),
        ("mongodb://user:hun?ter2@host/haul", "percent-encoded"),
        ("mongodb://user:hun?ter2=x@host/haul", "percent-encoded"),
        ("mongodb://user:hun@ter2@host/haul", "percent-encoded"),
        ("mongodb://user:hun:ter2@host/haul", "percent-encoded"),
        ("mongodb://user:hun%ter2@host/haul", "percent-encoded"),
        ("mongodb+srv://user:hunter2@a.example,b.example/haul", "no address of a MongoDB"),
        ("mongodb:/host/haul", "is not the address of a store"),
        ("mongodb:27017", "is not the address of a store"),
    ],
)
def test_an_address_that_cannot_be_is_refused_and_no_piece_of_a_password_is_shown(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match="HAUL_STORE_URL") as caught:
        open_store(url)
    assert words in str(caught.value)
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_each_profile_has_its_write_concern_and_pool() -> None:
    found = {profile: options("mongodb://host", profile) for profile in OPTIONS}
    assert {profile: o.write_concern.document for profile, o in found.items()} == {
        "development": {"w": 1, "j": True, "wtimeout": 10_000},
        "staging": {"w": "majority", "j": True, "wtimeout": 10_000},
        "production": {"w": "majority", "j": True, "wtimeout": 10_000},
    }
    assert {profile: o.pool_options.max_pool_size for profile, o in found.items()} == {"development": 10, "staging": 25, "production": 50}


@pytest.mark.parametrize("profile", list(OPTIONS))
def test_every_wait_has_an_end(profile: str) -> None:
    found = options("mongodb://host", profile)
    assert found.timeout == 10
    assert 0 < found.server_selection_timeout <= 10
    assert found.pool_options.connect_timeout == 5
    assert found.pool_options.wait_queue_timeout == 10
    assert found.pool_options.max_idle_time_seconds == 300
    assert found.pool_options.appname == "haul"


def test_options_of_the_address_go_before_ours_however_they_are_spelt() -> None:
    found = options("mongodb://host/haul?W=2&journal=false&MAXPOOLSIZE=3&timeoutms=700&serverSelectionTimeoutMS=900&appname=mine")
    assert found.write_concern.document == {"w": 2, "j": False, "wtimeout": 10_000}
    assert (found.timeout, found.server_selection_timeout, found.pool_options.max_pool_size) == (0.7, 0.9, 3)
    assert found.pool_options.appname == "mine"
    assert found.pool_options.connect_timeout == 5, "ours, where the address says nothing"


def test_tls_login_and_replica_set_are_read_from_the_address() -> None:
    found = options("mongodb://us%40er:p%2Fw@a:1,b:2/haul?tls=true&replicaSet=rs0&authSource=admin")
    credentials = found.pool_options._credentials
    assert (credentials.username, credentials.password, credentials.source) == ("us@er", "p/w", "admin")
    assert found.replica_set_name == "rs0"
    assert found.pool_options._ssl_context is not None
    assert found.pool_options._ssl_context.verify_mode.name == "CERT_REQUIRED"
