"""The files of `deploy`, docker-compose.yml and monitoring/prometheus.yml say what the code says."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.tidy.sources import ROOT
from worker.celery import CONTROL, JOBS, MAINTENANCE
from worker.cli.servers import qbittorrent, start_aria2c
from worker.engines.registry import build_engines

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENGINES = ("aria2", "qbittorrent")
#: What the container's aria2 has otherwise: its places, its address, and the secret that aria2.sh adds.
ARIA2_OWN = {
    "dir",
    "input-file",
    "save-session",
    "dht-file-path",
    "dht-file-path6",
    "rpc-listen-port",
    "rpc-listen-all",
    "rpc-secret",
    "ca-certificate",
}
#: The same of qBittorrent, by section; and files that are mapped into memory would count towards the container's limit.
QBITTORRENT_OWN = {
    ("BitTorrent", r"Session\DefaultSavePath"),
    ("BitTorrent", r"Session\Port"),
    ("BitTorrent", r"Session\DiskIOType"),
    ("Preferences", r"WebUI\Address"),
    ("Preferences", r"WebUI\Port"),
    ("Preferences", r"WebUI\ServerDomains"),
    ("Preferences", r"WebUI\HostHeaderValidation"),
    ("Preferences", r"WebUI\Password_PBKDF2"),
}


def test_the_containers_aria2_is_set_as_the_embedded_one(tmp_path: Path) -> None:
    server = start_aria2c(Path("/bin/true"), tmp_path, tmp_path, slots=32, wait=False)
    server.stop()
    embedded = _aria2_settings(tmp_path / "aria2.conf")
    container = _aria2_settings(ROOT / "deploy/aria2.conf")
    assert {k: v for k, v in container.items() if k not in ARIA2_OWN} == {k: v for k, v in embedded.items() if k not in ARIA2_OWN}


def test_the_containers_qbittorrent_is_set_as_the_embedded_one(tmp_path: Path) -> None:
    server = qbittorrent.start_qbittorrent(Path("/bin/true"), tmp_path, tmp_path, slots=32, wait=False)
    server.stop()
    embedded = _qbittorrent_settings(tmp_path / "qBittorrent/config/qBittorrent.conf")
    container = _qbittorrent_settings(ROOT / "deploy/qbittorrent.conf")
    own = QBITTORRENT_OWN
    assert {k: v for k, v in container.items() if k not in own} == {k: v for k, v in embedded.items() if k not in own}
    assert container["Preferences", r"WebUI\ServerDomains"] == "qbittorrent", "it is called by the name of its service"
    assert list(container)[-1][0] == "Preferences", "qbittorrent.py adds the password at the end"


def test_the_containers_qbittorrent_has_its_password_stored_as_the_embedded_one() -> None:
    container = runpy.run_path(str(ROOT / "deploy/qbittorrent.py"))
    names = ("HASH", "HASH_ROUNDS", "SALT_BYTES")
    assert [container[name] for name in names] == [getattr(qbittorrent, name) for name in names]
    salted = (container["stored"]("password"), qbittorrent._stored("password"))
    assert [[len(part) for part in text.split(":")] for text in salted] == [[24, 88]] * 2


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_few_rights_a_limit_and_a_check(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_its_secrets_as_files_and_only_its_own(name: str) -> None:
    service = SERVICES[name]
    told = " ".join(map(str, [service.get("command", ""), service["healthcheck"]["test"], *service.get("environment", {}).values()]))
    mounted = [volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith("./")]
    told += "".join((ROOT / path).read_text() for path in mounted)
    assert set(re.findall(r"/run/secrets/([\w.]+)", told)) <= set(service.get("secrets", []))
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_secrets_are_made_for_every_name() -> None:
    made = re.findall(r"^made (\S+)", (ROOT / "deploy/secrets.sh").read_text(), re.MULTILINE)
    assert set(made) == COMPOSE["secrets"].keys()


def test_store_and_engines_are_known_to_those_alone_that_use_them() -> None:
    users = {"worker", "supervisor", "api"}
    assert _having("store_url") == users
    assert _having("engines") == users
    assert _having("mongo_root_password") == _having("mongo_password") == {"mongo"}
    assert _having("aria2_secret") == {"aria2"}
    assert _having("qbittorrent_password") == {"qbittorrent"}


def test_the_addresses_that_are_made_lead_to_services_with_their_passwords(tmp_path: Path) -> None:
    subprocess.run([ROOT / "deploy/secrets.sh", tmp_path], check=True, timeout=30, capture_output=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    store, redis = urlsplit(made["store_url"]), urlsplit(made["redis_url"])
    assert (store.hostname, store.password, store.path) == ("mongo", made["mongo_password"], "/haul")
    assert (redis.hostname, redis.password) == ("redis", made["redis_password"])
    assert SERVICES["mongo"]["environment"]["MONGO_INITDB_DATABASE"] == store.path.strip("/")
    assert f"user: '{store.username}'" in (ROOT / "deploy/mongo-user.js").read_text()

    engines = build_engines(made["engines"].split(","), directory=tmp_path, slots=1)
    assert tuple(engines) == ENGINES
    aria2, qbittorrent = map(urlsplit, made["engines"].split(","))
    assert (aria2.hostname, aria2.password) == ("aria2", made["aria2_secret"])
    assert str(aria2.port) == _aria2_settings(ROOT / "deploy/aria2.conf")["rpc-listen-port"]
    assert (qbittorrent.hostname, qbittorrent.password) == ("qbittorrent", made["qbittorrent_password"])
    pages = _qbittorrent_settings(ROOT / "deploy/qbittorrent.conf")
    assert (qbittorrent.username, str(qbittorrent.port)) == (pages["Preferences", r"WebUI\Username"], pages["Preferences", r"WebUI\Port"])


def test_ports_are_open_to_this_machine_only() -> None:
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_shares_a_network_with_engines_and_those_alone_that_call_it(engine: str) -> None:
    guard = SERVICES[f"{engine}-guard"]
    networks = set(guard["networks"])
    assert guard["networks"]["rpc"]["aliases"] == [engine], "the engine is called by its name"
    guards = {f"{engine}-guard" for engine in ENGINES}
    assert {name for name, service in SERVICES.items() if networks & set(service.get("networks", ()))} == {*guards, "worker", "supervisor"}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_has_no_network_but_that_of_its_guard_which_alone_may_change_its_rules(engine: str) -> None:
    service = SERVICES[engine]
    assert service["network_mode"] == f"service:{engine}-guard"
    assert "networks" not in service
    assert service["depends_on"][f"{engine}-guard"]["condition"] == "service_healthy", "it starts once the rules are loaded"
    assert {name for name, other in SERVICES.items() if "cap_add" in other} == {f"{engine}-guard" for engine in ENGINES}
    assert SERVICES[f"{engine}-guard"]["cap_add"] == ["NET_ADMIN"]
    assert COMPOSE["x-environment"]["HAUL_EGRESS"] == "guarded"


def test_the_health_check_of_an_engine_comes_from_the_address_that_its_guard_lets_pass() -> None:
    own = runpy.run_path(str(ROOT / "deploy/probe.py"))["OWN"][0]
    assert f"ip saddr {own} ip daddr 127.0.0.1 accept" in (ROOT / "deploy/egress.nft").read_text()


def test_the_worker_consumes_every_queue() -> None:
    queues = re.search(r"--queues (\S+)", SERVICES["worker"]["command"])
    assert queues
    assert set(queues[1].split(",")) == {CONTROL, JOBS, MAINTENANCE}


def test_prometheus_scrapes_ports_on_which_services_listen() -> None:
    scraped = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in scraped for group in job["static_configs"] for target in group["targets"]}
    supervisor = SERVICES["supervisor"]["environment"]["HAUL_METRICS_PORT"]
    assert targets == {"api:8060", f"supervisor:{supervisor}", "flower:5555", "localhost:9090"}


def test_the_build_sees_no_file_it_does_not_copy() -> None:
    """The list of what is sent to the builder begins with nothing."""
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    assert not [path for path in sent if not (ROOT / path).exists()]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert {path for line in copied for path in line.split()} == sent


def _having(secret: str) -> set[str]:
    return {name for name, service in SERVICES.items() if secret in service.get("secrets", [])}


def _qbittorrent_settings(path: Path) -> dict[tuple[str, str], str]:
    settings, section = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(";"):
            key, _, value = line.partition("=")
            settings[section, key] = value
    return settings


def _aria2_settings(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("ends", "code", "session"),
    [
        ("kill -FPE $$", 136, ""),  # it is what it did that it died of, and that may stand in there
        ("kill -KILL $$", 137, "what it had\n"),
        ("kill -TERM $PPID; sleep 5 & wait", 7, "saved\n"),
    ],
)
def test_the_containers_aria2_begins_with_its_session_unless_it_died_of_a_fault_of_its_own(
    tmp_path: Path, ends: str, code: int, session: str
) -> None:
    program, kept = tmp_path / "bin/aria2c", tmp_path / "aria2.session"
    script = (ROOT / "deploy/aria2.sh").read_text().replace("/tmp/aria2.conf", f"{tmp_path}/conf")
    script = script.replace("/session/aria2.session", str(kept)).replace("/etc/haul/aria2.conf", "/dev/null")
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntrap 'echo saved >{kept}; exit 7' TERM\n{ends}\n")
    program.chmod(0o755)
    kept.write_text("what it had\n")
    ran = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{program.parent}:/usr/bin:/bin", "ARIA2_SECRET_FILE": "/dev/null"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, kept.read_text()) == (code, session)
