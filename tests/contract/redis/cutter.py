"""A way to a server that loses answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Cutter:
    """A way to a server that cuts the connection instead of passing on an answer, once for each `cut()`."""

    def __init__(self, port: int) -> None:
        self._server, self._cuts = ("127.0.0.1", port), threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cuts.release()

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._open += [near, far]
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers and self._cuts.acquire(blocking=False):
                    break
                sink.sendall(data)
            for one in (source, sink):
                one.shutdown(socket.SHUT_RDWR)
