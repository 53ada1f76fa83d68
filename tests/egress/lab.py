"""Two network namespaces: in one the engines, in the other the whole world. Needs root."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.egress.world import RESOLVER

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("ip", "nft", "aria2c", "curl")
COMMAND_S, RUN_S = 20, 120
#: For names of namespaces; several tests of one process have one after the other.
_NUMBERS = itertools.count()


def missing() -> str | None:
    """Why there can be no such namespaces here; None when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"not installed: {', '.join(absent)} (packages iproute2, nftables, aria2, curl)"
    tried = subprocess.run(["unshare", "--net", "nft", "list", "ruleset"], capture_output=True, timeout=COMMAND_S)
    return None if tried.returncode == 0 else "this machine lets root have no network namespaces, or no nftables in them"


@dataclass(frozen=True)
class Lab:
    """The namespaces, by their names."""

    inside: str
    outside: str

    def guard(self, *arguments: str, allowed: str = "") -> None:
        """Load the kernel's guard where the engines are, as deployments do."""
        environment = {**os.environ, "HAUL_ALLOW_NETWORKS": allowed}
        command = ["ip", "netns", "exec", self.inside, str(ROOT / "deploy/egress.sh"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, done.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command inside."""
        full = ["ip", "netns", "exec", self.inside, *command]
        return subprocess.run(full, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S)

    @contextlib.contextmanager
    def answering(self, *command: str) -> Iterator[None]:
        """A program outside, from the moment it says that it is ready until the block ends."""
        full = ["ip", "netns", "exec", self.outside, *command]
        with subprocess.Popen(full, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == "ready\n"
                yield
            finally:
                process.kill()

    def engine(self, mode: str, directory: Path, name: str = "aria2") -> Mapping[str, Any]:
        """What `tests.egress.run` found."""
        done = self.run(sys.executable, "-m", "tests.egress.run", mode, str(directory), name)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@contextlib.contextmanager
def lab() -> Iterator[Lab]:
    """The namespaces and the world, for as long as the block lasts."""
    number = f"haul-{os.getpid()}-{next(_NUMBERS)}"
    made = Lab(f"{number}-in", f"{number}-out")
    resolver = Path("/etc/netns", made.inside)
    try:
        resolver.mkdir(parents=True)
        (resolver / "resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        for line in _commands(made.inside, made.outside).strip().splitlines():
            subprocess.run(line.split(), check=True, timeout=COMMAND_S, capture_output=True)
        with made.answering(sys.executable, "-m", "tests.egress.world"):
            yield made
    finally:
        for name in (made.inside, made.outside):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=COMMAND_S)
        shutil.rmtree(resolver, ignore_errors=True)


def _commands(inside: str, outside: str) -> str:
    """A cable between two public addresses; outside, every address is the machine's own."""
    return f"""
ip netns add {inside}
ip netns add {outside}
ip -n {inside} link add eth0 type veth peer name eth0 netns {outside}
ip -n {inside} link set lo up
ip -n {outside} link set lo up
ip -n {inside} link set eth0 up
ip -n {outside} link set eth0 up
ip -n {inside} address add 45.10.0.2/24 dev eth0
ip -n {outside} address add 45.10.0.1/24 dev eth0
ip -n {inside} -6 address add 2a10:1::2/64 dev eth0 nodad
ip -n {outside} -6 address add 2a10:1::1/64 dev eth0 nodad
ip -n {inside} route add default via 45.10.0.1
ip -n {inside} -6 route add default via 2a10:1::1
ip -n {outside} route add local 0.0.0.0/0 dev lo table main
ip -n {outside} -6 route add local ::/0 dev lo table main
"""
