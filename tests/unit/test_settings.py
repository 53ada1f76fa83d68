"""Settings: what the environment says, what is wrong with it, and that secrets stay out of sight."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from worker.settings import NoStack, Settings, SettingsError, load
from worker.stack import Stack, stack_file

STACK = Stack(
    pid=1,
    redis_url="redis://:stacksecret@127.0.0.1:1/0",
    engines=("aria2+http://:stacksecret@127.0.0.1:2/jsonrpc",),
    api_url=None,
    children={},
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting but the data directory."""
    for name in [name for name in os.environ if name.startswith("HAUL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HAUL_DATA_DIR", str(tmp_path))


def test_with_nothing_set_it_is_an_embedded_stack_on_sqlite(tmp_path: Path) -> None:
    settings = load()
    assert settings.needs_stack
    assert settings.store_address == f"sqlite:///{tmp_path}/haul.db"
    assert settings.engine_addresses == ("embedded",)
    assert settings.allow_networks == ()


def test_lists_are_separated_by_commas_and_blanks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_ENGINES", " embedded, aria2+http://:s@host:6800/jsonrpc ,,")
    monkeypatch.setenv("HAUL_ALLOW_NETWORKS", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("HAUL_API_KEYS", "one,two")
    settings = load()
    assert settings.engine_addresses == ("embedded", "aria2+http://:s@host:6800/jsonrpc")
    assert settings.allow_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


def test_a_secret_can_come_from_a_file_which_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://:fromfile@host/0\n")
    monkeypatch.setenv("HAUL_REDIS_URL", "redis://:fromvariable@host/0")
    monkeypatch.setenv("HAUL_REDIS_URL_FILE", str(file))
    assert load().redis_address == "redis://:fromfile@host/0"
    assert load(redis_url="redis://:argument@host/0").redis_address == "redis://:argument@host/0"
    file.write_text("a,b\n")
    monkeypatch.setenv("HAUL_API_KEYS_FILE", str(file))
    assert [key.get_secret_value() for key in load().api_keys] == ["a", "b"]


def test_a_secret_file_that_cannot_be_read_names_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HAUL_STORE_URL_FILE", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL_FILE: cannot read .*nothing: No such file"):
        load()
    (tmp_path / "nothing").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"HAUL_STORE_URL_FILE: .*nothing is not a text"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HAUL_API_PORT", "high"),
        ("HAUL_API_PORT", "65536"),
        ("HAUL_SLOTS", "0"),
        ("HAUL_SLOTS", ""),
        ("HAUL_PROFILE", "prod"),
        ("HAUL_TIMEZONE", "Europe/Nowhere"),
        ("HAUL_TIMEZONE", "../etc/passwd"),
        ("HAUL_TIMEZONE", "Europe"),
        ("HAUL_DATA_DIR", "~nosuchuser/haul"),
        ("HAUL_ALLOW_NETWORKS", "10.0.0.0/8,10.0.0.1/8"),
        ("HAUL_ALLOW_NETWORKS", "everything"),
        ("HAUL_LOG_LEVEL", "loud"),
        ("HAUL_WEBHOOKS", "host/events"),
        ("HAUL_WEBHOOKS", "ftp://host/events"),
        ("HAUL_WEBHOOKS", "https:///events"),
        ("HAUL_WEBHOOKS", "https://host:0/events"),
        ("HAUL_WEBHOOKS", "https://host:port/events"),
        ("HAUL_WEBHOOKS", "https://host/ev ents"),
        ("HAUL_WEBHOOKS", "https://höst/events"),
        ("HAUL_WEBHOOKS", "https://host/events#part"),
        ("HAUL_WEBHOOKS", "https://[::1/events"),
        ("HAUL_WEBHOOKS", ",".join(f"https://host/{n}" for n in range(9))),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: ."):
        load()


def test_secrets_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE_URL", "REDIS_URL", "ENGINES", "API_KEYS"):
        monkeypatch.setenv(f"HAUL_{name}", "redis://:topsecret@host/0")
    settings = load().connected()
    assert "topsecret" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "topsecret" in settings.redis_address


def test_what_is_wrong_with_a_webhook_is_said_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_WEBHOOKS", "https://host/topsecret,ftp://user:topsecret@host/topsecret")
    with pytest.raises(SettingsError, match=r"HAUL_WEBHOOKS: .*number 2 is no http") as caught:
        load()
    assert "topsecret" not in str(caught.value)


def test_webhooks_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_WEBHOOKS", "https://host/topsecret, https://user:topsecret@host:8080/")
    monkeypatch.setenv("HAUL_WEBHOOK_SECRET", "topsecret")
    settings = load().connected(STACK)
    assert settings.webhook_addresses == ("https://host/topsecret", "https://user:topsecret@host:8080/")
    assert "topsecret" not in f"{settings!r} {settings.model_dump_json()}"


def test_a_door_without_webhooks_of_its_own_has_those_of_the_running_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stack = replace(STACK, webhooks=("https://host/a", "https://host/b"))
    stack.save(tmp_path)
    assert Stack.load(tmp_path) == stack
    assert load().connected().webhook_addresses == stack.webhooks
    monkeypatch.setenv("HAUL_WEBHOOKS", "https://host/own")
    assert load().connected().webhook_addresses == ("https://host/own",)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().slots = 5  # type: ignore[misc]


def test_without_a_stack_an_embedded_address_cannot_be_connected(tmp_path: Path) -> None:
    with pytest.raises(NoStack, match=r"haul up.*HAUL_REDIS_URL and HAUL_ENGINES"):
        load().connected()


def test_the_running_stack_gives_its_addresses(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    connected = load().connected()
    assert (connected.redis_address, connected.engine_addresses) == (STACK.redis_url, STACK.engines)
    assert not connected.needs_stack
    assert "stacksecret" not in repr(connected)
    assert connected.connected() is connected


def test_addresses_that_were_named_stay_and_only_the_embedded_ones_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_REDIS_URL", "redis://elsewhere/0")
    monkeypatch.setenv("HAUL_ENGINES", "aria2+http://:s@other:6800/jsonrpc,embedded")
    connected = load().connected(STACK)
    assert connected.redis_address == "redis://elsewhere/0"
    assert sorted(connected.engine_addresses) == sorted([*STACK.engines, "aria2+http://:s@other:6800/jsonrpc"])
    monkeypatch.setenv("HAUL_REDIS_URL", "embedded")
    monkeypatch.setenv("HAUL_ENGINES", "aria2+http://:s@other:6800/jsonrpc")
    connected = load().connected(STACK)
    assert connected.redis_address == STACK.redis_url
    assert connected.engine_addresses == ("aria2+http://:s@other:6800/jsonrpc",)


def test_with_every_address_named_no_stack_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_REDIS_URL", "redis://host/0")
    monkeypatch.setenv("HAUL_ENGINES", "aria2+http://:s@other:6800/jsonrpc")
    settings: Settings = load()
    assert settings.connected() is settings


def test_the_stack_file_is_read_as_it_was_written_and_only_by_its_owner(tmp_path: Path) -> None:
    STACK.save(tmp_path)
    STACK.save(tmp_path)
    assert Stack.load(tmp_path) == STACK
    assert stack_file(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"engines": 5}', '{"pid": 1, "engines": [], "unknown": 1}'])
def test_a_stack_file_that_cannot_be_read_counts_as_none(tmp_path: Path, text: str) -> None:
    stack_file(tmp_path).write_text(text)
    assert Stack.load(tmp_path) is None


def test_a_relative_data_directory_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HAUL_DATA_DIR", "data")
    assert load().data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "size"),
    [("2 GiB", 2 * 1024**3), ("1.5g", 1_500_000_000), ("100 MB", 100_000_000), ("16777216", 16 * 1024**2), (" 20480 KiB ", 20 * 1024**2)],
)
def test_the_space_that_stays_free_is_given_as_people_write_sizes(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("HAUL_SPACE_RESERVE", text)
    assert load().space_reserve == size


@pytest.mark.parametrize("text", ["1 MiB", "16777215", "-5", "a lot", "5 EiB", "", "9" * 400])
def test_a_reserve_that_is_too_small_or_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HAUL_SPACE_RESERVE", text)
    with pytest.raises(SettingsError, match=r"HAUL_SPACE_RESERVE.*at least 16 MiB, such as 2 GiB"):
        load()
