"""Names: files after the noun they own, metrics as Prometheus wants them, and no place or host of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.tidy.sources import ROOT, modules, tracked
from worker.metrics import Metrics

VAGUE = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "tools", "base", "stuff"})
#: Labels whose values are few and known. A user, a URL or a job would make a time series each.
LABELS = frozenset(
    {
        "engine",
        "tier",
        "state",
        "cause",
        "task",
        "queue",
        "cache",
        "step",
        "kind",
        "work",
        "pool",
        "outcome",
        "action",
        "method",
        "route",
        "status",
    }
)
#: Of the advisor: the step, tick or route; what is asked of the store.
LABELS |= {"doing", "verb"}
OF_ONE_MACHINE = re.compile(r"(?<![\w.~-])/(?:work|root|opt/wheels)/")
REGISTRIES = re.compile(r"pypi\.org|pythonhosted\.org|docker\.(?:io|com)\b|ghcr\.io|quay\.io|gcr\.io", re.IGNORECASE)
#: The lock file names the index it was made from; this file names what it looks for.
NOT_SEARCHED = ("uv.lock", "tests/tidy/test_names.py")


def test_a_file_is_named_for_the_noun_it_owns() -> None:
    parts = {part: path for path in modules() for part in Path(path).with_suffix("").parts}
    assert not VAGUE & parts.keys(), {parts[name] for name in VAGUE & parts.keys()}


def test_every_directory_of_code_is_a_package() -> None:
    directories = {path.parent for top in ("worker", "tests") for path in (ROOT / top).rglob("*.py")}
    assert not [str(path.relative_to(ROOT)) for path in directories if not (path / "__init__.py").exists()]


def test_every_metric_has_our_prefix_and_labels_with_few_values() -> None:
    metrics = [metric for metric in vars(Metrics()).values() if hasattr(metric, "_labelnames")]
    assert metrics
    for metric in metrics:
        assert metric._name.startswith("haul_"), metric._name
        assert set(metric._labelnames) <= LABELS, metric._name


def test_the_environment_is_read_in_one_place() -> None:
    """`os.environ` and `getenv`; what a program needs to find itself (PATH, SSL_CERT_FILE) is no setting."""
    allowed = {"worker/settings.py", "worker/cli/servers/aria2.py", "worker/cli/servers/programs.py"}
    readers = {path for path, source in modules().items() for node in ast.walk(ast.parse(source)) if _reads_environment(node)}
    assert readers <= allowed


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    found = [
        f"{name}:{number}: {match.group()}"
        for name, text in tracked().items()
        if name not in NOT_SEARCHED
        for number, line in enumerate(text.splitlines(), 1)
        for match in (OF_ONE_MACHINE.search(line), REGISTRIES.search(line))
        if match
    ]
    assert not found


def test_the_patterns_find_what_they_look_for() -> None:
    assert all(map(OF_ONE_MACHINE.search, ("cd " + "/work" + "/main", '"/root' + '/.cache"', "--find-links=" + "/opt" + "/wheels/x")))
    assert all(map(REGISTRIES.search, ("https://pypi" + ".org/simple", "docker" + ".io/library/redis", "FROM ghcr" + ".io/x/uv")))
    assert not any(map(OF_ONE_MACHINE.search, (".haul/work/x", "~/root/x", "framework/")))


def _reads_environment(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
