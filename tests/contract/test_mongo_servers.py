"""The MongoDB store and servers that are guarded, old, away or killed."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from tests.contract.store_jobs import NOW, WAIT_S, a_job, some_jobs, until
from tests.mongodb import MongoServer, mongo_server
from worker.cli.servers import free_port
from worker.jobs.errors import Transient
from worker.ports import Change
from worker.settings import SettingsError
from worker.store import open_store

# ---- away and killed ---------------------------------------------------------------------------------------------


def test_a_server_that_is_away_is_a_passing_fault_that_names_no_password() -> None:
    with pytest.raises(Transient, match=r"store: MongoDB database 'haul': no server answers \(127\.0\.0\.1:.*refused\)$") as caught:
        open_store(f"mongodb://user:hunter2@127.0.0.1:{free_port()}/haul?authSource=admin&serverSelectionTimeoutMS=200")
    assert "hunter2" not in str(caught.value)


def test_a_killed_server_has_lost_nothing_that_was_acknowledged_and_the_store_goes_on(tmp_path: Path) -> None:
    with mongo_server(tmp_path) as server, closing(open_store(f"mongodb://{server.address}/haul?timeoutMS=2000")) as store:
        jobs = some_jobs(10)
        store.insert(jobs)
        acked = []
        enough = threading.Event()

        def write() -> None:
            last = jobs
            try:
                while True:
                    last = [a.job for a in store.apply([Change(job, job.noted(NOW, "line")) for job in last]) if a.job]
                    acked.append(last[0].version)
                    if len(acked) == 5:
                        enough.set()
            except Transient:
                return

        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(WAIT_S)
        server.kill()
        writer.join(WAIT_S)
        assert not writer.is_alive()
        server.start()
        until(lambda: _answers(store))
        found = store.get([job.id for job in jobs])
        assert len(found) == len(jobs)
        assert {job.version for job in found.values()} <= {acked[-1], acked[-1] + 1}
        assert all(a.won for a in store.apply([Change(job, job.noted(NOW)) for job in found.values()]))


def _answers(store: Any) -> bool:
    try:
        store.ping()
    except Transient:
        return False
    return True


# ---- logins ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server that asks for a login: `writer` may write to `haul`, `reader` may read it; both passwords are hun:t/er2."""
    with mongo_server(tmp_path_factory.mktemp("guarded")) as server:
        with MongoClient[Any](f"mongodb://{server.address}") as client:
            for user, role in (("writer", "readWrite"), ("reader", "read")):
                client.admin.command("createUser", user, pwd="hun:t/er2", roles=[{"role": role, "db": "haul"}])
        server.kill()
        server.start("--auth")
        yield server


def test_a_user_with_the_role_and_the_password_stores_jobs(guarded: MongoServer) -> None:
    with closing(open_store(f"mongodb://writer:hun%3At%2Fer2@{guarded.address}/haul?authSource=admin")) as store:
        job = a_job("k")
        store.insert([job])
        assert store.get([job.id]) == {job.id: job}
        assert store.now() > NOW


@pytest.mark.parametrize(
    ("login", "rest", "words"),
    [
        ("writer:hunter2@", "haul?authSource=admin", "the server does not know the user 'writer' by this password; .*authSource"),
        ("nobody:hunter2@", "haul?authSource=admin", "the server does not know the user 'nobody' by this password"),
        ("writer:hun%3At%2Fer2@", "haul", "the server does not know the user 'writer' by this password"),
        ("reader:hun%3At%2Fer2@", "haul?authSource=admin", "the user 'reader' may not use the database 'haul'; give it the role readWrite"),
        ("writer:hun%3At%2Fer2@", "other?authSource=admin", "the user 'writer' may not use the database 'other'"),
        ("", "haul", "the server asks for a user; put user:password@ before the host"),
    ],
)
def test_a_login_that_does_not_do_is_refused_with_what_to_do(guarded: MongoServer, login: str, rest: str, words: str) -> None:
    with pytest.raises(SettingsError, match=rf"HAUL_STORE_URL: {words}") as caught:
        open_store(f"mongodb://{login}{guarded.address}/{rest}")
    assert "er2" not in str(caught.value)


# ---- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority (ca.pem), a server's certificate for 127.0.0.1 by it (server.pem, server.key), and another authority (other.pem)."""
    directory = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=30)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signed, "-days", "2", "-out", "server.pem")
    return directory


@pytest.fixture(scope="module")
def encrypted(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    options = ("--tls-cert-file", str(certificates / "server.pem"), "--tls-key-file", str(certificates / "server.key"))
    with mongo_server(tmp_path_factory.mktemp("encrypted"), *options) as server:
        yield server


def test_jobs_are_stored_over_tls_when_the_servers_certificate_is_ones_own_authoritys(encrypted: MongoServer, certificates: Path) -> None:
    with closing(open_store(f"mongodb://{encrypted.address}/haul?tls=true&tlsCAFile={certificates / 'ca.pem'}")) as store:
        job = a_job("k")
        store.insert([job])
        assert store.get([job.id]) == {job.id: job}


@pytest.mark.parametrize("trust", ["&tlsCAFile={}/other.pem", ""])
def test_a_certificate_nobody_vouches_for_is_not_taken(encrypted: MongoServer, certificates: Path, trust: str) -> None:
    url = f"mongodb://{encrypted.address}/haul?tls=true&serverSelectionTimeoutMS=500{trust.format(certificates)}"
    with pytest.raises(Transient, match=r"no server answers \(.*certificate verify failed"):
        open_store(url)


def test_a_server_that_speaks_tls_is_not_spoken_to_in_the_clear(encrypted: MongoServer) -> None:
    with pytest.raises(Transient, match="no server answers"):
        open_store(f"mongodb://{encrypted.address}/haul?serverSelectionTimeoutMS=500")


# ---- old servers -------------------------------------------------------------------------------------------------

HEADER = struct.Struct("<iiii")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


@contextmanager
def old_server(version: str, wire_version: int) -> Iterator[str]:
    """The address of a server that says its version, and knows nothing else."""
    hello = {"ismaster": True, "isWritablePrimary": True, "maxBsonObjectSize": 2**24, "maxMessageSizeBytes": 48_000_000}
    hello |= {"maxWriteBatchSize": 100_000, "minWireVersion": 0, "maxWireVersion": wire_version, "readOnly": False, "ok": 1.0}
    answers = {"ismaster": hello, "hello": hello, "buildinfo": {"version": version, "ok": 1.0}}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, answers), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def _accept(listener: socket.socket, answers: Mapping[str, Mapping[str, Any]]) -> None:
    try:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client, answers), daemon=True).start()
    except OSError:
        return


def _answer(client: socket.socket, answers: Mapping[str, Mapping[str, Any]]) -> None:
    with client, client.makefile("rb") as stream:
        while len(head := stream.read(HEADER.size)) == HEADER.size:
            length, request, _, opcode = HEADER.unpack(head)
            body = stream.read(length - HEADER.size)
            start = 5 if opcode == OP_MSG else body.index(b"\0", 4) + 9  # flags and kind; or flags, collection, skip, limit
            size = struct.unpack_from("<i", body, start)[0]
            command = next(iter(bson.decode(body[start : start + size]))).lower()
            document = bson.encode(answers.get(command, {"ok": 0.0, "errmsg": "no such command", "code": 59}))
            prefix = b"\0" * 5 if opcode == OP_MSG else struct.pack("<iqii", 8, 0, 0, 1)
            kind = OP_MSG if opcode == OP_MSG else OP_REPLY
            client.sendall(HEADER.pack(HEADER.size + len(prefix) + len(document), 0, request, kind) + prefix + document)


@pytest.mark.parametrize(("version", "wire_version"), [("4.4.29", 9), ("4.2.24", 8)])
def test_a_mongodb_older_than_5_is_refused(version: str, wire_version: int) -> None:
    found = version if wire_version >= 9 else "of an early version"  # the driver itself will not speak to that
    words = rf"HAUL_STORE_URL: the server is MongoDB {found}, and Haul needs 5\.0 or later; upgrade"
    with old_server(version, wire_version) as address, pytest.raises(SettingsError, match=words):
        open_store(f"mongodb://{address}/haul?serverMonitoringMode=poll&directConnection=true")


def test_the_old_server_of_these_tests_is_refused_for_its_version_only() -> None:
    with old_server("5.0.0", 13) as address, pytest.raises(Transient, match=r"the server refused it \(error 59\)"):
        open_store(f"mongodb://{address}/haul?serverMonitoringMode=poll&directConnection=true")
