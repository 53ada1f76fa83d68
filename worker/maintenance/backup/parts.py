"""One part of a backup as a file: a stream, compressed by zstd, cut into chunks, each encrypted with AES-256-GCM.

    file   = "HAULPART" version(1) encrypted(1) chunk…
    chunk  = length(4, big-endian) last(1) payload(length)

A payload is a piece of the zstd stream, or its ciphertext with tag. The key is the part's own, the nonce the chunk's number, and the
part's name, the chunk's number and `last` are authenticated with it: chunks that were swapped, repeated, taken from elsewhere or cut
off at the end do not decrypt. Without a key the hashes of the manifest tell all the same, as long as nobody has changed those, too.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from worker.maintenance.backup.faults import Damaged, Unreadable
from worker.ports import Spend

MAGIC = b"HAULPART"
VERSION = 1
CHUNK_BYTES = 1024 * 1024
TAG_BYTES = 16
LEVEL = 3
#: Of one step of reading or writing plain bytes.
STEP_BYTES = 256 * 1024
#: Flushed at once: others flush their files, too, and wait for what was written before.
FLUSH_BYTES = 8 * CHUNK_BYTES

#: Length and `last`; the chunk's number and `last`.
_CHUNK, _BOUND = ">IB", ">QB"
_HEAD_BYTES = 5


@dataclass(frozen=True, slots=True)
class Part:
    """What was written.

    Attributes:
        size, sha256: of the plain bytes.
        stored_size, stored_sha256: of the file.
    """

    name: str
    size: int
    sha256: str
    stored_size: int
    stored_sha256: str


def write_part(path: Path, name: str, chunks: Iterable[bytes], cipher: AESGCM | None, spend: Spend) -> Part:
    """Write a part to a new file, durably."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    plain, size, waiting = hashlib.sha256(), 0, bytearray()
    with path.open("xb") as file:
        os.chmod(file.fileno(), 0o600)
        sink = _Sink(file, name, cipher)
        for chunk in chunks:
            plain.update(chunk)
            size += len(chunk)
            waiting += compressor.compress(chunk)
            while len(waiting) > CHUNK_BYTES:
                sink.put(bytes(waiting[:CHUNK_BYTES]), last=False)
                del waiting[:CHUNK_BYTES]
            spend(len(chunk))
        waiting += compressor.flush()
        while len(waiting) > CHUNK_BYTES:
            sink.put(bytes(waiting[:CHUNK_BYTES]), last=False)
            del waiting[:CHUNK_BYTES]
        sink.put(bytes(waiting), last=True)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is read back from the disk, and others keep their cache
    return Part(name, size, plain.hexdigest(), sink.size, sink.sha256)


def read_part(path: Path, part: Part, cipher: AESGCM | None, spend: Spend) -> Iterator[bytes]:
    """The plain bytes of a part; what is not as it was written is refused, at the latest behind the last byte.

    Raises:
        Damaged: names the part.
    """
    plain, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            source = _Source(file, part.name, cipher)
            reader = zstandard.ZstdDecompressor().stream_reader(cast(BinaryIO, source), read_size=STEP_BYTES)
            while chunk := reader.read(STEP_BYTES):
                plain.update(chunk)
                size += len(chunk)
                spend(len(chunk))
                yield chunk
            source.finish()
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        raise Damaged(part.name, "is missing") from None
    except zstandard.ZstdError as error:
        raise Damaged(part.name, f"cannot be decompressed ({error})") from None
    except OSError as error:
        raise Unreadable(part.name, f"cannot be read: {error.strerror}") from error
    if (source.size, source.sha256) != (part.stored_size, part.stored_sha256):
        raise Damaged(part.name, "is not the one that was written")
    if (size, plain.hexdigest()) != (part.size, part.sha256):
        raise Damaged(part.name, "has another content than was written")


def check_stored(path: Path, part: Part, spend: Spend) -> None:
    """Compare the file with its hash, which needs no key. Raises Damaged."""
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(STEP_BYTES):
                digest.update(chunk)
                size += len(chunk)
                spend(len(chunk))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except FileNotFoundError:
        raise Damaged(part.name, "is missing") from None
    except OSError as error:
        raise Unreadable(part.name, f"cannot be read: {error.strerror}") from error
    if size < part.stored_size:
        raise Damaged(part.name, f"is cut off: {size} of {part.stored_size} bytes")
    if (size, digest.hexdigest()) != (part.stored_size, part.stored_sha256):
        raise Damaged(part.name, "is not the one that was written")


class _Sink:
    def __init__(self, file: BinaryIO, name: str, cipher: AESGCM | None) -> None:
        self._file, self._name, self._cipher = file, name, cipher
        self._digest, self._number, self.size, self._flushed = hashlib.sha256(), 0, 0, 0
        self._write(MAGIC + bytes([VERSION, cipher is not None]))

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def put(self, payload: bytes, *, last: bool) -> None:
        if self._cipher:
            payload = self._cipher.encrypt(_nonce(self._number), payload, _bound(self._name, self._number, last))
        self._write(struct.pack(_CHUNK, len(payload), last) + payload)
        self._number += 1

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)
        if self.size - self._flushed >= FLUSH_BYTES:
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._flushed = self.size


class _Source:
    """The zstd stream inside the chunks, as a file to read from."""

    def __init__(self, file: BinaryIO, name: str, cipher: AESGCM | None) -> None:
        self._file, self._name, self._cipher = file, name, cipher
        self._digest, self._number, self.size = hashlib.sha256(), 0, 0
        self._waiting, self._ended = b"", False
        head = self._read(len(MAGIC) + 2)
        if head[: len(MAGIC)] != MAGIC or head[len(MAGIC)] != VERSION or bool(head[-1]) != (cipher is not None):
            raise Damaged(name, "does not begin as a part of a backup does")

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, size: int) -> bytes:
        while not self._waiting and not self._ended:
            self._waiting = self._chunk()
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece

    def finish(self) -> None:
        """Nothing is left, neither in the chunks nor behind them."""
        if self.read(1) or not self._ended or self._file.read(1):
            raise Damaged(self._name, "goes on behind its end")

    def _chunk(self) -> bytes:
        length, last = struct.unpack(_CHUNK, self._read(_HEAD_BYTES))
        if length > CHUNK_BYTES + TAG_BYTES or last > 1:
            raise Damaged(self._name, f"is damaged at chunk {self._number}")
        payload = self._read(length)
        if self._cipher:
            try:
                payload = self._cipher.decrypt(_nonce(self._number), payload, _bound(self._name, self._number, bool(last)))
            except InvalidTag:
                raise Damaged(self._name, f"is damaged at chunk {self._number}") from None
        self._number += 1
        self._ended = bool(last)
        return payload

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Damaged(self._name, f"is cut off at chunk {self._number}")
        self._digest.update(data)
        self.size += count
        return data


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _bound(name: str, number: int, last: bool) -> bytes:
    return name.encode() + b"\0" + struct.pack(_BOUND, number, last)
