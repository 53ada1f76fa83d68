"""An FTP server in a thread, on a free port, that counts what it sends."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # asyncore and asynchat, which it is made of
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler
    from pyftpdlib.servers import FTPServer

RATE = 100_000


@dataclass
class Ftp:
    """The server's address, and bytes sent by file name."""

    port: int
    sent: Counter[str] = field(default_factory=Counter)

    def url(self, name: str, login: str = "") -> str:
        """The address of a file; `login` as `user:password`."""
        return f"ftp://{login + '@' if login else ''}127.0.0.1:{self.port}/{name}"


@contextmanager
def ftp_server(directory: Path, user: str, password: str) -> Iterator[Ftp]:
    """Serve the directory to anonymous, and its `private` directory's content to one user."""
    private = directory / "private"
    private.mkdir(exist_ok=True)
    authorizer = DummyAuthorizer()
    authorizer.add_anonymous(str(directory), perm="elr")
    authorizer.add_user(user, password, str(private), perm="elr")

    class Counting(ThrottledDTPHandler):
        # Answers that come at once are read together, and then aria2 waits 20 s for the second.
        read_limit, write_limit = 0, RATE

        def send(self, data: Any) -> int:
            sent = int(super().send(data))
            if self.file_obj is not None:
                found.sent[Path(self.file_obj.name).name] += sent
            return sent

    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "dtp_handler": Counting, "use_sendfile": False})
    server = FTPServer(("127.0.0.1", 0), handler)
    found = Ftp(server.address[1])
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            server.ioloop.loop(0.05, False)

    thread = threading.Thread(target=serve, name="ftp", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join(5)
        server.close_all()
