"""The files of `deploy`, docker-compose.yml and monitoring/prometheus.yml say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tidy.sources import ROOT
from worker.celery import CONTROL, JOBS, MAINTENANCE
from worker.cli.servers import start_aria2c

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: What the container's aria2 has otherwise: its places, its address, and the secret that aria2.sh adds.
OWN = {
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


def test_the_containers_aria2_is_set_as_the_embedded_one(tmp_path: Path) -> None:
    server = start_aria2c(Path("/bin/true"), tmp_path, tmp_path, slots=32, wait=False)
    server.stop()
    embedded = _aria2_settings(tmp_path / "aria2.conf")
    container = _aria2_settings(ROOT / "deploy/aria2.conf")
    assert {k: v for k, v in container.items() if k not in OWN} == {k: v for k, v in embedded.items() if k not in OWN}


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
    assert set(re.findall(r"/run/secrets/([\w.]+)", told)) <= set(service.get("secrets", []))
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()


def test_secrets_are_made_for_every_name() -> None:
    made = re.findall(r"^made (\S+)", (ROOT / "deploy/secrets.sh").read_text(), re.MULTILINE)
    assert set(made) == COMPOSE["secrets"].keys()


def test_ports_are_open_to_this_machine_only() -> None:
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))


def test_the_engine_shares_a_network_with_those_alone_that_call_it() -> None:
    networks = set(SERVICES["aria2"]["networks"])
    assert {name for name, service in SERVICES.items() if networks & set(service["networks"])} == {"aria2", "worker", "supervisor"}


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


def _aria2_settings(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
