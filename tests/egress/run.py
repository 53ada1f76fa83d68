"""A real engine inside the network namespace of the engines, and what it reaches.

`python -m tests.egress.run raw|checked|proof DIRECTORY [aria2|qbittorrent]`. `raw` gives it every case as it is, or those of its kinds.
`checked` has Haul take the cases as jobs of a client, and gives it what Haul lets pass. `proof` has an aria2 of the user nobody, and
Haul try whether it is guarded. Prints one JSON object.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from tests.egress import world
from tests.egress.corpus import PORT, PUBLIC, Case, cases
from tests.egress.qbittorrent import Qbittorrent
from tests.machine import services_of
from worker import pipeline
from worker.admission import guard
from worker.engines.aria2.orders import OPTIONS
from worker.engines.fake import FakeEngine
from worker.engines.registry import build_engines
from worker.jobs.errors import Rejected
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.jobs.states import Reason, State
from worker.ports import Services, Step
from worker.settings import load
from worker.store.sqlite.store import SqliteStore

RPC_PORT = 6800
#: The health check's own address, for which the guard has a rule.
PROBE_HOST = "127.0.0.77"
START_S, CHECK_S = 20.0, 60.0
#: The engine is watched for so long at most, and until nothing new came for so long.
WATCH_S, QUIET_S, LEAST_S = 40.0, 4.0, 6.0
#: What must happen whatever guards the engine: a file and a tracker at public addresses.
SENTINEL = "free"


class Aria2:
    """One aria2c and its RPC."""

    def __init__(self, directory: Path, user: str | None = None) -> None:
        self._directory = directory
        options = [
            *(
                "--no-conf",
                "--quiet",
                "--enable-rpc",
                f"--rpc-listen-port={RPC_PORT}",
                f"--dir={directory}",
                "--max-concurrent-downloads=1000",
            ),
            *(f"--dht-file-path={directory}/dht", "--rpc-max-request-size=32M", "--bt-tracker-connect-timeout=4", "--bt-tracker-timeout=4"),
        ]
        self.process = subprocess.Popen(["aria2c", *options], user=user)
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                self.call("getVersion")
                return
            assert self.process.poll() is None, "aria2c ended"
            assert time.monotonic() < deadline, "aria2c does not answer"
            time.sleep(0.05)

    def call(self, method: str, *arguments: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", RPC_PORT, timeout=20, source_address=(PROBE_HOST, 0))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": f"aria2.{method}", "params": arguments})
        with contextlib.closing(connection):
            connection.request("POST", "/jsonrpc", body)
            return json.loads(connection.getresponse().read())

    def add(self, id: str, uri: str, document: bytes | None) -> None:
        """What Haul would submit; what aria2 refuses is refused."""
        options = {**OPTIONS, "dir": str(self._directory / id), "max-tries": "1", "connect-timeout": "3", "timeout": "6", "seed-time": "0"}
        if document is None:
            self.call("addUri", [uri], options)
        else:
            self.call("addTorrent", base64.b64encode(document).decode(), [], options)


def main() -> None:
    mode, directory = sys.argv[1], Path(sys.argv[2])
    if mode == "proof":
        print(json.dumps({"unproved": unproved(directory)}))
        return
    for port in (PORT, 80):
        world.listen(world.Place, port)
    outcomes: dict[str, str] = {}
    wanted: list[tuple[str, str, bytes | None]] = []
    if mode == "checked":
        with services(directory) as served:
            outcomes, wanted = judged(served)
    elif mode == "raw":
        wanted = [(case.id, case.uri, case.document) for case in cases()]
    fetches = sys.argv[3:] != ["qbittorrent"]
    engine = Aria2(directory) if fetches else Qbittorrent(directory)
    try:
        begun = time.monotonic()
        if fetches:
            engine.add(SENTINEL, f"{PUBLIC}/{SENTINEL}", None)
        engine.add("tracked", "", Case("tracked", torrent={"announce": f"{PUBLIC}/announce/{SENTINEL}"}).document)
        for id, uri, document in wanted:
            if fetches or Case(id, uri).of_torrents or document:
                engine.add(id, uri, document)
        watch(begun)
    finally:
        engine.process.kill()
        engine.process.wait()
    file = directory / SENTINEL / SENTINEL
    seen = outside()
    public = f"announce/{SENTINEL}" in seen["asked"] and (not fetches or (file.exists() and file.read_bytes() == b"12345"))
    hits = [*seen["hits"], *world.HITS.found]
    print(json.dumps({"outcomes": outcomes, "hits": hits, "public": public, "watched_s": time.monotonic() - begun}))


def unproved(directory: Path) -> str | None:
    """What Haul says of an aria2 on this machine."""
    aria2 = Aria2(directory, "nobody")
    engine = build_engines([f"aria2+http://127.0.0.1:{RPC_PORT}"], directory=directory, slots=8)["aria2"]
    try:
        return guard.unproved(engine, load(engines=f"aria2+http://127.0.0.1:{RPC_PORT}"))
    finally:
        engine.close()
        aria2.process.kill()
        aria2.process.wait()


def watch(begun: float) -> None:
    """Until nothing goes on any more."""
    known, changed = -1, begun
    while (now := time.monotonic()) - begun < WATCH_S:
        events = len(outside()["hits"]) + len(world.HITS.found)
        if events != known:
            known, changed = events, now
        if now - begun > LEAST_S and now - changed > QUIET_S:
            return
        time.sleep(0.2)


def outside() -> Mapping[str, Any]:
    """What the world has counted."""
    with build_opener(ProxyHandler({})).open(f"http://{world.PUBLIC4}:{PORT}/hits", timeout=20) as answer:
        found: Mapping[str, Any] = json.load(answer)
        return found


# ---- Haul ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def services(directory: Path) -> Iterator[Services]:
    """Haul's steps over a store of their own, in the mode `checked`."""
    (directory / "volume").mkdir()
    store = SqliteStore(directory / "haul.db", time.monotonic)
    made = services_of(directory, store, [FakeEngine(str(directory / "volume"))], settings={"probe": "always", "egress": "checked"})
    with contextlib.closing(store):
        yield made


def judged(services: Services) -> tuple[dict[str, str], list[tuple[str, str, bytes | None]]]:
    """What stopped each case; and the id, the URI and the `.torrent` file of what an engine would get."""
    outcomes, jobs = {}, {}
    for case in cases():
        document = {"torrent": base64.b64encode(case.document).decode()} if case.document else {"uri": case.uri}
        try:
            [answer] = pipeline.accept(services, [parse({"user": "ann", "key": case.id, **document})])
        except Rejected as refusal:
            answer = refusal
        if isinstance(answer, Rejected):
            outcomes[case.id] = "door"
        else:
            jobs[case.id] = answer.job
    deadline = time.monotonic() + CHECK_S
    while (left := _now(services, jobs)) and any(job.reason in (Reason.DESCRIPTION, Reason.PROBE) for job in left.values()):
        assert time.monotonic() < deadline, [id for id, job in left.items() if job.reason in (Reason.DESCRIPTION, Reason.PROBE)]
        pipeline.run(services, Step.DESCRIBE)
        pipeline.run(services, Step.PROBE)
        time.sleep(0.1)
    passed = []
    for id, job in left.items():
        if job.state is State.FAILED:
            outcomes[id] = "check"
            continue
        name = job.description.document if job.description else ""
        document = services.store.torrents([name]).get(name)
        outcomes[id] = "stripped" if _is_stripped(jobs[id], job, document) else "nothing"
        passed.append((id, job.source.uri, document))
    return outcomes, passed


def _now(services: Services, jobs: Mapping[str, Job]) -> dict[str, Job]:
    found = services.store.get([job.id for job in jobs.values()])
    return {id: found[job.id] for id, job in jobs.items()}


def _is_stripped(before: Job, job: Job, document: bytes | None) -> bool:
    if before.description is None and document is not None:  # fetched: what it named is not there any more
        return b"8:announce" not in document
    return before.source != job.source or before.description != job.description


if __name__ == "__main__":
    main()
