"""A torrent, a tracker and a seeder on this machine: what a magnet link needs."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from urllib.parse import quote

from tests.origin import Origin, content
from worker.cli.servers import free_port

PIECE_BYTES = 32_768
FILES = {"a.bin": content(300_000, 1), "sub/b.bin": content(500_000, 2)}
SIZE = sum(len(body) for body in FILES.values())


def bencode(value: object) -> bytes:
    """BEP 3."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    assert isinstance(value, dict)
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in sorted(value.items())) + b"e"


class Seeder:
    """An aria2c that has the whole torrent; the origin is its tracker."""

    def __init__(self, program: Path, base: Path, origin: Origin, *, rate: str = "0") -> None:
        for name, body in FILES.items():
            path = base / "seed" / "pack" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        whole = b"".join(FILES.values())
        pieces = b"".join(hashlib.sha1(whole[at : at + PIECE_BYTES]).digest() for at in range(0, len(whole), PIECE_BYTES))
        files = [{"length": len(body), "path": name.split("/")} for name, body in FILES.items()]
        info = {"name": "pack", "piece length": PIECE_BYTES, "pieces": pieces, "files": files}
        port = free_port()
        peer = bytes((127, 0, 0, 1)) + port.to_bytes(2, "big")
        tracker = origin.document("announce", bencode({"interval": 60, "peers": peer}))
        torrent = bencode({"announce": tracker, "info": info})
        infohash = hashlib.sha1(bencode(info)).hexdigest()
        self.magnet = f"magnet:?xt=urn:btih:{infohash}&tr={quote(tracker, safe='')}"
        self.torrent_url = origin.document("pack.torrent", torrent)
        (base / "pack.torrent").write_bytes(torrent)
        options = ["--no-conf", "-V", "--quiet", "--seed-ratio=0", "--seed-time=600", "--enable-dht=false", f"--max-upload-limit={rate}"]
        places = [f"--listen-port={port}", f"--dir={base / 'seed'}", str(base / "pack.torrent")]
        self._process = subprocess.Popen([str(program), *options, *places])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
