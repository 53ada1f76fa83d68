"""Who may call."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.integration.api.caller import problem, served
from tests.integration.doors import services_on
from worker.api.server import serve
from worker.cli.servers import Server
from worker.ports import Services
from worker.settings import SettingsError


def test_with_keys_every_v1_route_needs_one_and_probes_do_not(valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(valkey.url, key_prefix, tmp_path, api_keys="first-key,second-key") as services, served(services) as (_, http):
        paths = [(path, method) for path, item in http.get("/openapi.json").json()["paths"].items() for method in item]
        for path, method in paths:
            answer = http.request(method, path.replace("{id}", "x"), headers={"accept": "*/*"})
            if path.startswith("/v1/"):
                problem(answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            else:
                assert answer.status_code != 401, path
        for wrong in ("Bearer x", "Bearer first", "Bearer first-keyy", "Basic first-key", "first-key", "Bearer ü"):
            problem(http.get("/v1/jobs", headers={"authorization": wrong.encode()}), 401)
        for right in ("Bearer first-key", "bearer second-key"):
            assert http.get("/v1/jobs", headers={"authorization": right}).status_code == 200


def test_without_keys_only_loopback_may_be_bound(services: Services) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(SettingsError, match="HAUL_API_KEYS"):
            serve(services, host=host, port=0)


def test_without_keys_a_web_page_under_another_name_is_not_served(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.get("/v1/jobs", headers={"host": "evil.example:8060"}), 403, "Host")
    for host in ("localhost:8060", "127.0.0.1", "[::1]:8060"):
        assert http.get("/v1/jobs", headers={"host": host}).status_code == 200
