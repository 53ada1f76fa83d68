"""A TCP proxy before a server: it can be slow, cut every connection, refuse new ones, or swallow what comes without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType

CHUNK_BYTES = 65536
POLL_S = 0.05
CONNECT_S = 5.0


class _Line:
    """One connection: the client's end and the server's."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.dead = False  # what comes is swallowed

    def reset(self) -> None:
        """Close both ends with RST, as a peer that was killed."""
        for each in filter(None, (self.client, self.server)):
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RD)  # a thread that reads lets go; nothing is sent yet
            with contextlib.suppress(OSError):
                each.close()


class TcpProxy:
    """Passes bytes on between clients and the server at `host:port`, both ways; a context manager.

    What is set holds for connections that are open and for those that come.

    Args:
        listen: where it listens, instead of a free port; qBittorrent answers only those that ask for it by its own port, so its
            proxy has the same one on another loopback address.
    """

    def __init__(self, server: str, listen: str = "127.0.0.1:0") -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        at, _, own = listen.rpartition(":")
        self._listener = socket.create_server((at, int(own)), backlog=1024)
        self.port = int(self._listener.getsockname()[1])
        self.address = f"{at}:{self.port}"
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._refusing = self._swallowing = False
        self._delay_s = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ---- faults ----

    def delay(self, seconds: float) -> None:
        """Keep every piece back for so long."""
        self._delay_s = seconds

    def cut(self) -> int:
        """Reset every open connection; new ones are served. Returns how many there were."""
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            line.reset()
        return len(lines)

    def refuse(self) -> None:
        """Reset every open connection and each new one at once, as a machine whose server is down."""
        self._refusing = True
        self.cut()

    def black_hole(self) -> None:
        """Take everything and pass nothing on, in connections that stay open: the peer is gone and nobody was told.

        What is lost stays lost: these connections are dead after `heal` too, and still silent.
        """
        with self._lock:
            self._swallowing = True
            for line in self._lines:
                line.dead = True

    def lead_to(self, server: str) -> None:
        """Lead connections that come from now on to another server; those that are open stay with the old one."""
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))

    def heal(self) -> None:
        """Serve every connection that comes from now on, and those that are open but for the dead."""
        self._refusing = self._swallowing = False
        self._delay_s = 0.0

    def close(self) -> None:
        """Break all connections and listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread that waits would take one more
        self._listener.close()
        self.cut()

    @property
    def connections(self) -> int:
        """Open connections that are served."""
        with self._lock:
            return sum(not line.dead for line in self._lines)

    # ---- the work ----

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._open, args=(_Line(client),), daemon=True).start()

    def _open(self, line: _Line) -> None:
        with self._lock:
            line.dead = self._swallowing
            self._lines.add(line)
        try:
            if self._refusing:
                raise ConnectionRefusedError
            line.server = socket.create_connection(self._server, CONNECT_S)
            line.server.settimeout(None)
        except OSError:
            self._drop(line)
            return
        threading.Thread(target=self._pump, args=(line, line.server, line.client), daemon=True).start()
        self._pump(line, line.client, line.server)

    def _pump(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                self._hold()
                if not line.dead:
                    sink.sendall(data)
            if not line.dead:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(line)

    def _hold(self) -> None:
        until = time.monotonic() + self._delay_s
        while self._delay_s and (left := until - time.monotonic()) > 0:  # `heal` lets go of what is held
            time.sleep(min(left, POLL_S))

    def _drop(self, line: _Line) -> None:
        with self._lock:
            self._lines.discard(line)
        line.reset()
