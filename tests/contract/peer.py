"""A BitTorrent client that calls another one and gives it a torrent of the first version, from memory, whatever its names are."""

from __future__ import annotations

import socket
import struct
import threading

from tests.torrents import Pack

HANDSHAKE_BYTES = 68
AGAIN_S = 0.1
UNCHOKE, INTERESTED, BITFIELD, REQUEST, PIECE = 1, 2, 5, 6, 7


class Peer:
    """Calls until it is heard, and gives until it is stopped."""

    def __init__(self, made: Pack, port: int) -> None:
        self._made, self._port = made, port
        self._whole = b"".join(made.files.values())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._stopping.wait(AGAIN_S):
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1.0) as line:
                    self._serve(line)
            except OSError:  # it does not know the torrent yet, or is not there
                continue

    def _serve(self, line: socket.socket) -> None:
        line.sendall(b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(self._made.infohash) + b"-HL0000-" + b"0" * 12)
        self._read(line, HANDSHAKE_BYTES)
        pieces = -(-len(self._whole) // int(self._made.info["piece length"]))
        self._say(line, BITFIELD, ((1 << pieces) - 1 << (-pieces % 8)).to_bytes(-(-pieces // 8), "big"))
        while True:
            (length,) = struct.unpack(">I", self._read(line, 4))
            message = self._read(line, length)
            if message[:1] == bytes([INTERESTED]):
                self._say(line, UNCHOKE)
            elif message[:1] == bytes([REQUEST]):
                piece, offset, size = struct.unpack(">III", message[1:])
                at = piece * int(self._made.info["piece length"]) + offset
                self._say(line, PIECE, struct.pack(">II", piece, offset) + self._whole[at : at + size])

    def _read(self, line: socket.socket, size: int) -> bytes:
        got = b""
        while len(got) < size:
            try:
                more = line.recv(size - len(got))
            except TimeoutError:
                more = None
            if more == b"" or self._stopping.is_set():
                raise ConnectionResetError
            got += more or b""
        return got

    def _say(self, line: socket.socket, kind: int, body: bytes = b"") -> None:
        line.sendall(struct.pack(">IB", len(body) + 1, kind) + body)
