"""Alerts by Prometheus's own checker: each rule is read, and each alert fires and is over when its case says so."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import missing
from worker.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "monitoring").glob("*.rules.yml"))
CHECK_S = 60.0


def case_of(rules: Path) -> Path:
    """The cases of a file of rules."""
    return Path(__file__).with_name(rules.name.replace(".rules.", ".test."))


def alerts_of(rules: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    """The program, on PATH or where .ci/run puts it."""
    found = shutil.which("promtool") or shutil.which("promtool", path=ROOT / ".tools")
    if found is None:
        missing("promtool", "apt install prometheus, or .ci/run, which takes this one program out of that package")
    return str(found)


def checked(promtool: str, *words: str | Path) -> None:
    ended = subprocess.run([promtool, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=CHECK_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_can_read_its_settings_with_all_the_rules(promtool: str) -> None:
    checked(promtool, "check", "config", "monitoring/prometheus.yml")


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_an_alert_fires_when_it_should_and_nothing_else_ever_does(promtool: str, rules: Path) -> None:
    checked(promtool, "check", "rules", rules)
    checked(promtool, "test", "rules", case_of(rules))


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_the_container_of_prometheus_is_given_the_rules(rules: Path) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]
    assert f"./monitoring/{rules.name}:/etc/prometheus/{rules.name}:ro" in service["volumes"]


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_each_alert_has_a_case_in_which_it_fires(rules: Path) -> None:
    cases = yaml.safe_load(case_of(rules).read_text())["tests"]
    expected = [sample["labels"] for case in cases for asked in case["promql_expr_test"] for sample in asked["exp_samples"]]
    fired = set(re.findall(r'alertname="(\w+)", alertstate="firing"', "\n".join(expected)))
    assert fired == {alert["alert"] for alert in alerts_of(rules)}


@pytest.mark.parametrize("rules", RULES, ids=lambda path: path.name)
def test_an_alert_is_about_metrics_that_exist_and_says_what_to_do(rules: Path) -> None:
    shown = {metric._name for metric in vars(Metrics()).values() if hasattr(metric, "_name")}
    for alert in alerts_of(rules):
        assert {name.removesuffix("_total") for name in re.findall(r"haul_\w+", alert["expr"])} <= shown
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"]["summary"]
        assert "`haul " in alert["annotations"]["description"]
        assert (ROOT / alert["annotations"]["runbook"]).is_file()
