"""The network outside: every address there is answers, names lead where the cases want, and what comes to a private address is counted.

Runs in a network namespace of its own, in which all addresses are local: `python -m tests.egress.world`. Tells by GET /hits of a public
address what was reached, each time with the address and what was asked for.
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import unquote

from tests.egress.corpus import PORT
from tests.torrents import bencode
from worker.admission.ranges import kind_of

PUBLIC4 = "45.20.0.80"
RESOLVER = "10.53.0.53"
#: Of Linux; the module `socket` does not name it.
IP_PKTINFO = 8
#: Clients of HTTP and TLS speak first; who says nothing for so long speaks FTP.
SILENCE_S = 0.4
TIMEOUT_S = 8.0
#: Of the file with a mirror in its header: so much that aria2 takes a second connection.
LARGE = 80 * 1024 * 1024
METALINK = (
    '<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="{id}"><resources>'
    '<url type="http">{uri}</url></resources></file></files></metalink>'
)
FIXED = {
    "pub": [PUBLIC4],
    "alias": ["10.66.0.1"],
    "mixed": [PUBLIC4, "10.66.0.1"],
    "families": [PUBLIC4, "fd00::66"],
}


class Hits:
    """What was reached, and how often a public path was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.found: list[tuple[str, str]] = []
        self.asked: Counter[str] = Counter()

    def add(self, to: str, what: str) -> None:
        with self._lock:
            self.found.append((to, what))

    def number(self, what: str) -> int:
        with self._lock:
            self.asked[what] += 1
            return self.asked[what]


HITS = Hits()


class Place(socketserver.BaseRequestHandler):
    """A connection to any address: a private one counts it, a public one serves what its path says."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._serve(str(self.request.getsockname()[0]).partition("%")[0])

    def _serve(self, here: str) -> None:
        self.request.settimeout(TIMEOUT_S)
        private = kind_of(ip_address(here)) is not None
        if not _speaks(self.request):
            self._ftp(here, private=private)
            return
        data = self.request.recv(65_536)
        line = data.partition(b"\r\n")[0].decode(errors="replace").split(" ")
        if private:
            HITS.add(here, line[1] if len(line) == 3 else "tls" if data[:1] == b"\x16" else "bytes")
            self.request.sendall(_answer("404 Not Found"))
        elif len(line) == 3:
            self._public(line[0], line[1], data)

    def _ftp(self, here: str, *, private: bool) -> None:
        if private:
            HITS.add(here, "ftp")
        self.request.sendall(b"220 here\r\n")
        self.request.recv(4096)
        self.request.sendall(b"421 no\r\n")

    def _public(self, method: str, path: str, data: bytes) -> None:
        kind, *rest = path.strip("/").partition("?")[0].split("/")
        serve = getattr(self, f"_{kind}", None)
        ours = b"user-agent: haul" in data.lower()
        self.request.sendall(serve(method, rest, ours) if serve else _answer("200 OK", b"12345"))

    def _hits(self, *_: object) -> bytes:
        return _answer("200 OK", json.dumps({"hits": HITS.found, "asked": HITS.asked}).encode())

    def _announce(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        HITS.number("announce/" + "/".join(rest))
        return _answer("200 OK", bencode({"interval": 60, "peers": b""}))

    def _peers(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        return _answer("200 OK", bencode({"interval": 60, "peers": IPv4Address(rest[0]).packed + struct.pack(">H", PORT)}))

    def _moved(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        status, hops, target, name = rest
        further = f"/moved/{status}/{int(hops) - 1}/{target}/{name}"
        return _answer(f"{status} Moved", b"", f"Location: {further if int(hops) > 1 else unquote(target)}")

    def _later(self, method: str, rest: list[str], ours: bool) -> bytes:
        how, host, id, _ = rest
        if how == "silent" and ours:
            time.sleep(TIMEOUT_S)
        kept = {"method": method == "HEAD", "agent": ours, "second": HITS.number(id) == 1, "silent": False}[how]
        return _answer("200 OK", b"12345") if kept else _answer("302 Found", b"", f"Location: http://{host}:{PORT}/{id}")

    def _torrent(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        return _answer("200 OK", _torrent(*rest[:3]), "Content-Type: application/x-bittorrent")

    def _metalink(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        host, id, _ = rest
        uri = f"http://{host}:{PORT}/{id}"
        body = METALINK.format(id=id, uri=uri)
        return _answer("200 OK", body.encode(), "Content-Type: application/metalink+xml")

    def _meta4(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        return _answer("200 OK", _meta4(rest[0], rest[1]), "Content-Type: application/metalink4+xml")

    def _entity(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        head = f'<!DOCTYPE m [<!ENTITY h "{rest[0]}">]>'.encode()
        return _answer("200 OK", head + _meta4("&h;", rest[1]), "Content-Type: application/metalink4+xml")

    def _typed(self, _method: str, rest: list[str], _ours: bool) -> bytes:
        kind, host, id, _ = rest
        if kind == "torrent":
            return _answer("200 OK", _torrent("announce", host, id), "Content-Type: application/x-bittorrent")
        return _answer("200 OK", _meta4(host, id), "Content-Type: application/metalink4+xml")

    def _link(self, method: str, rest: list[str], _ours: bool) -> bytes:
        host, id, _ = rest
        digest = "Digest: SHA-256=" + "A" * 43 + "="
        head = _answer(
            "200 OK", b"", f"Link: <http://{host}:{PORT}/{id}>; rel=duplicate; pri=1", digest, "Accept-Ranges: bytes", length=LARGE
        )
        self.request.sendall(head)
        for _ in range(20 if method == "GET" else 0):
            self.request.sendall(bytes(1000))
            time.sleep(0.2)
        return b""


def _speaks(connection: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(SILENCE_S))


def _answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def _torrent(key: str, host: str, id: str) -> bytes:
    info = {"name": f"t-{id}", "piece length": 16_384, "length": 5, "pieces": b"0" * 20}
    return bencode({key: f"http://{host}:{PORT}/announce/{id}", "info": info})


def _meta4(host: str, id: str) -> bytes:
    uri = f"http://{host}:{PORT}/{id}"
    return f'<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="{id}"><url>{uri}</url></file></metalink>'.encode()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def handle_error(self, *_: object) -> None:
        """Clients go away."""


class Server6(Server):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        super().server_bind()


def listen(handler: type[socketserver.BaseRequestHandler], port: int) -> None:
    """Serve on every address of both families, in threads."""
    for kind, host in ((Server, "0.0.0.0"), (Server6, "::")):
        threading.Thread(target=kind((host, port), handler).serve_forever, daemon=True).start()


def watch_datagrams(port: int) -> None:
    """Count datagrams to private addresses, in a thread."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    listener.bind(("0.0.0.0", port))

    def watch() -> None:
        while True:
            _, ancillary, _, _ = listener.recvmsg(4096, 1024)
            here = str(IPv4Address(ancillary[0][2][8:12]))
            if kind_of(ip_address(here)):
                HITS.add(here, "datagram")

    threading.Thread(target=watch, daemon=True).start()


# ---- names -----------------------------------------------------------------------------------------------------


class Names(socketserver.BaseRequestHandler):
    """Answers a question by UDP; of names that rebind the first of each type with a public address."""

    def handle(self) -> None:
        data, reply = self.request
        labels, at = [], 12
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode(errors="replace").lower())
            at += size + 1
        (kind,) = struct.unpack(">H", data[at + 1 : at + 3])
        found = [ip_address(text) for text in _addresses(labels, kind)] if labels[-1:] == ["test"] else None
        wanted = {1: IPv4Address, 28: IPv6Address}.get(kind)
        answers = [address for address in found or () if isinstance(address, wanted or ())]
        flags = 0x8580 if found else 0x8583
        head = data[:2] + struct.pack(">HHHHH", flags, 1, len(answers), 0, 0) + data[12 : at + 5]
        records = (b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(a.packed)) + a.packed for a in answers)
        reply.sendto(head + b"".join(records), self.client_address)


def _addresses(labels: list[str], kind: int) -> list[str]:
    name = labels[0]
    if name.startswith("rebind-"):
        return [PUBLIC4] if HITS.number(f"{name} {kind}") == 1 else ["10.66.2.2" if name == "rebind-ftp" else "10.66.2.1"]
    if name.startswith("six-"):
        return [name.removeprefix("six-").replace("-", ":")]
    if match := re.fullmatch(r"a-(\d+)-(\d+)-(\d+)-(\d+)", name):
        return [".".join(match.groups())]
    return FIXED.get(name, [])


def main() -> None:
    for port in (PORT, 80):
        listen(Place, port)
    watch_datagrams(PORT)
    print("ready", flush=True)
    with socketserver.ThreadingUDPServer((RESOLVER, 53), Names) as names:
        names.daemon_threads = True
        names.serve_forever()


if __name__ == "__main__":
    main()
