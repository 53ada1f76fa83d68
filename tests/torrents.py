"""Torrents made from bytes, of either version of BitTorrent, and real clients that seed and fetch them on this machine.

Formats: BEP 3 (v1), BEP 47 (padding), BEP 52 (v2 and hybrids), BEP 19 (web seeds), BEP 9 and 53 (magnet links).
"""

from __future__ import annotations

import base64
import hashlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from tests.origin import Origin, content
from worker.cli.servers import free_port

Version = Literal["v1", "hybrid", "v2"]

PIECE_BYTES = 32_768
#: What v2 hashes, whatever the size of its pieces.
BLOCK_BYTES = 16_384
#: A folder of three files, for torrents that need one; sizes that do not fall on pieces.
FILES: Mapping[str, bytes] = {"a.bin": content(300_000, 1), "sub/b.bin": content(500_000, 2), "sub/c.bin": content(70_000, 3)}
START_S = 20.0
FETCH_S = 60.0


def bencode(value: object) -> bytes:
    """BEP 3."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list | tuple):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    assert isinstance(value, Mapping)
    pairs = sorted((key.encode() if isinstance(key, str) else key, item) for key, item in value.items())
    return b"d" + b"".join(bencode(key) + bencode(item) for key, item in pairs) + b"e"


@dataclass(frozen=True)
class Pack:
    """A torrent and what is in it.

    Attributes:
        name: of the folder, or of the only file.
        files: path below the folder, or the name of the only file -> content; in the order of the torrent, without padding.
        single: the torrent is one file and no folder.
        info: as it stands in the document.
        layers: hashes of the pieces of v2, by the root of their file.
    """

    name: str
    files: Mapping[str, bytes]
    single: bool
    version: Version
    info: Mapping[str, Any]
    layers: Mapping[bytes, bytes]
    trackers: tuple[str, ...] = ()
    web_seeds: tuple[str, ...] = ()

    @property
    def document(self) -> bytes:
        """The `.torrent` file."""
        whole: dict[str, object] = {"info": self.info}
        if self.trackers:
            whole |= {"announce": self.trackers[0], "announce-list": [[tracker] for tracker in self.trackers]}
        if self.web_seeds:
            whole["url-list"] = list(self.web_seeds)
        if self.version != "v1":
            whole["piece layers"] = self.layers
        return bencode(whole)

    @property
    def v1(self) -> str | None:
        """Infohash of the first version."""
        return hashlib.sha1(bencode(self.info)).hexdigest() if self.version != "v2" else None

    @property
    def v2(self) -> str | None:
        """Infohash of the second version."""
        return hashlib.sha256(bencode(self.info)).hexdigest() if self.version != "v1" else None

    @property
    def infohash(self) -> str:
        """What trackers and peers call it: 40 hexadecimal digits."""
        return self.v1 or str(self.v2)[:40]

    @property
    def laid(self) -> dict[str, bytes]:
        """The files as they lie below the directory of a client."""
        return dict(self.files) if self.single else {f"{self.name}/{path}": body for path, body in self.files.items()}

    @property
    def padding(self) -> dict[str, bytes]:
        """The padding of a hybrid, as clients of v1 lay it."""
        return {f"{self.name}/{'/'.join(file['path'])}": bytes(file["length"]) for file in self.info.get("files", ()) if "attr" in file}

    @property
    def size(self) -> int:
        """Bytes of all files, without padding."""
        return sum(map(len, self.files.values()))

    def magnet(self, *, btih: Literal["hex", "base32"] | None = "hex", btmh: bool = False) -> str:
        """A magnet link with its trackers and web seeds; of v2 alone it always has the hash of v2."""
        topics = []
        if btih and self.v1:
            topics.append("urn:btih:" + (self.v1 if btih == "hex" else base64.b32encode(bytes.fromhex(self.v1)).decode()))
        if self.v2 and (btmh or not topics):
            topics.append(f"urn:btmh:1220{self.v2}")
        more = [("tr", tracker) for tracker in self.trackers] + [("ws", seed) for seed in self.web_seeds]
        return "magnet:?" + "&".join([*(f"xt={topic}" for topic in topics), *(f"{key}={quote(value, safe='')}" for key, value in more)])

    @property
    def stream(self) -> list[bytes]:
        """The files as v1 counts them, padding included."""
        bodies = iter(self.files.values())
        return [bytes(file["length"]) if "attr" in file else next(bodies) for file in self.info.get("files", ({},))]


def pack(
    files: Mapping[str, bytes] = FILES,
    *,
    name: str = "pack",
    single: bool = False,
    version: Version = "v1",
    piece_bytes: int = PIECE_BYTES,
    trackers: Sequence[str] = (),
    web_seeds: Sequence[str] = (),
    private: bool = False,
) -> Pack:
    """A torrent of these files; the second version sorts them by their paths.

    Args:
        files: path below the folder -> content; `single` takes the first and calls it `name`.
        web_seeds: addresses; of a folder they end with a slash, and `name` and the path are appended by the client.
    """
    if single:
        files = {name: next(iter(files.values()))}
    if version != "v1":
        files = dict(sorted(files.items(), key=lambda item: [part.encode() for part in item[0].split("/")]))
    info: dict[str, Any] = {"name": name, "piece length": piece_bytes}
    layers: dict[bytes, bytes] = {}
    if version != "v2":
        info |= _first(files, single, piece_bytes, aligned=version == "hybrid")
    if version != "v1":
        info |= {"meta version": 2, "file tree": _tree(files, piece_bytes, layers)}
    if private:
        info["private"] = 1
    return Pack(name, files, single, version, info, layers, tuple(trackers), tuple(web_seeds))


def _first(files: Mapping[str, bytes], single: bool, piece_bytes: int, *, aligned: bool) -> dict[str, Any]:
    """The keys of v1: one stream of bytes cut into pieces; in a hybrid each file begins with a piece."""
    entries: list[dict[str, Any]] = []
    stream = bytearray()
    for path, body in files.items():
        if aligned and (rest := -len(stream) % piece_bytes):
            entries.append({"attr": "p", "length": rest, "path": [".pad", str(rest)]})
            stream += bytes(rest)
        entries.append({"length": len(body), "path": path.split("/")})
        stream += body
    pieces = b"".join(hashlib.sha1(stream[at : at + piece_bytes]).digest() for at in range(0, len(stream), piece_bytes))
    return {"pieces": pieces, **({"length": len(stream)} if single else {"files": entries})}


def _tree(files: Mapping[str, bytes], piece_bytes: int, layers: dict[bytes, bytes]) -> dict[str, Any]:
    """The file tree of v2; the layers of pieces of large files are added to `layers`."""
    tree: dict[str, Any] = {}
    for path, body in files.items():
        *folders, last = path.split("/")
        at = tree
        for folder in folders:
            at = at.setdefault(folder, {})
        root = _root(body, piece_bytes, layers) if body else None
        at[last] = {"": {"length": len(body), **({"pieces root": root} if root else {})}}
    return tree


def _root(body: bytes, piece_bytes: int, layers: dict[bytes, bytes]) -> bytes:
    zero = bytes(32)
    blocks = [hashlib.sha256(body[at : at + BLOCK_BYTES]).digest() for at in range(0, len(body), BLOCK_BYTES)]
    if len(body) <= piece_bytes:
        return _merkle(blocks, _power_of_two(len(blocks)), zero)
    width = piece_bytes // BLOCK_BYTES
    layer = [_merkle(blocks[at : at + width], width, zero) for at in range(0, len(blocks), width)]
    root = _merkle(layer, _power_of_two(len(layer)), _merkle([], width, zero))
    layers[root] = b"".join(layer)
    return root


def _merkle(hashes: Sequence[bytes], width: int, padding: bytes) -> bytes:
    """The root over `width` leaves, a power of two; those that are missing are `padding`."""
    row = [*hashes, *[padding] * (width - len(hashes))]
    while len(row) > 1:
        row = [hashlib.sha256(row[at] + row[at + 1]).digest() for at in range(0, len(row), 2)]
    return row[0]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def web_seeded(origin: Origin, made: Pack, *, rate: int = 0) -> Pack:
    """The same torrent with the origin as its web seed, at `rate` bytes a second and connection."""
    place = f"/with/rate={rate}/doc/{made.infohash}"
    # Clients of v1 ask for the padding, too; others know what is in it.
    for path, body in {**made.laid, **made.padding}.items():
        origin.document(f"{made.infohash}/{path}", body)
    return replace(made, web_seeds=(origin.url(f"{place}/{quote(made.name)}" if made.single else f"{place}/"),))


class Seeder:
    """An aria2c that has all of some torrents of v1 (from 1.37 on also hybrids) and gives it to others; the origin is their tracker.

    It is known to the tracker when the constructor returns. A context manager.
    """

    def __init__(self, program: Path, base: Path, origin: Origin, *packs: Pack, rate: str = "0") -> None:
        base.mkdir(parents=True, exist_ok=True)
        lines = []
        for number, made in enumerate(packs):
            (base / str(number)).mkdir()
            for place, body in enumerate(made.stream, 1):
                (base / str(number) / str(place)).write_bytes(body)
            (base / f"{number}.torrent").write_bytes(replace(made, web_seeds=(), trackers=(origin.url("announce"),)).document)
            # The files are called by their numbers, so that a torrent may call them what it wants.
            names = [f" index-out={place}={place}" for place in range(1, len(made.stream) + 1)]
            lines += [str(base / f"{number}.torrent"), f" dir={base / str(number)}", *names]
        (base / "input").write_text("\n".join(lines) + "\n")
        port = free_port()
        options = ["--seed-ratio=0", "--seed-time=600", "--bt-seed-unverified=true", f"--max-upload-limit={rate}", f"--listen-port={port}"]
        command = [str(program), *_QUIET, *options, f"--input-file={base / 'input'}", "--max-concurrent-downloads=100"]
        self._process = subprocess.Popen(command)
        try:
            self._await_tracker(origin, port, packs)
        except BaseException:
            self.stop()
            raise

    def _await_tracker(self, origin: Origin, port: int, packs: Sequence[Pack]) -> None:
        deadline = time.monotonic() + START_S
        while not all(port in origin.peers(made.infohash) for made in packs):
            assert self._process.poll() is None, "the seeder ended"
            assert time.monotonic() < deadline, "the seeder does not announce itself (aria2 1.36 knows no hybrids)"
            time.sleep(0.02)

    @contextmanager
    def held(self) -> Iterator[None]:
        """It is there and says nothing inside."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it at once. Idempotent."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Seeder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def fetch(program: Path, base: Path, made: Pack, *, timeout_s: float = FETCH_S) -> bool:
    """Fetch a torrent of v1 or a hybrid from the peers its trackers know, never from web seeds; whether all of it came in time."""
    base.mkdir(parents=True, exist_ok=True)
    (base / "wanted.torrent").write_bytes(replace(made, web_seeds=()).document)
    options = ["--seed-time=0", f"--listen-port={free_port()}", f"--dir={base}", str(base / "wanted.torrent")]
    try:
        done = subprocess.run([str(program), *_QUIET, *options], timeout=timeout_s, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
    return done and all((base / path).read_bytes() == body for path, body in made.laid.items())


_QUIET = ("--no-conf", "--quiet", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--file-allocation=none")
