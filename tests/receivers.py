"""A receiver of webhooks that remembers what it was posted, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from examples.webhook_receiver import is_genuine

#: What is done with an event instead of an answer with a status.
HANG, RESET = "hang", "reset"
HANG_S = 30.0

Event = Mapping[str, Any]
Answer = int | str


@dataclass(frozen=True)
class Post:
    """One post as it came.

    Attributes:
        answer: the status it got, `HANG` or `RESET`.
        genuine: whether it is signed with the receiver's secret.
    """

    event: Event
    headers: Mapping[str, str]
    path: str
    answer: Answer
    genuine: bool
    at: float


class Receiver:
    """Listens on a port of its own; a context manager. It answers 204 to everything unless `answer` says otherwise.

    Args:
        answer: what an event is answered with.
    """

    def __init__(self, secret: str = "", answer: Callable[[Event], Answer] = lambda _: 204) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self.wrong: list[str] = []
        self._secret = secret.encode()
        self._lock = threading.Lock()
        self._taken: dict[str, list[str]] = {}
        self._server: ThreadingHTTPServer | None = None
        self._letting_go = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/hook?token=hunter2"

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._letting_go.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on, as a machine whose server is down."""
        server, self._server = self._server, None
        self._letting_go.set()
        if server:
            server.shutdown()
            server.server_close()

    def events(self, job: str) -> list[Event]:
        """What was taken of a job, repeats left out, in the order in which it came."""
        taken: dict[str, Event] = {}
        for post in self.of(job):
            if post.answer == 204:
                assert taken.setdefault(post.event["id"], post.event) == post.event, "a repeat is the same event"
        return list(taken.values())

    def types(self, job: str) -> list[str]:
        """The types of these events, without `job.`."""
        return [event["type"].removeprefix("job.") for event in self.events(job)]

    def of(self, job: str) -> list[Post]:
        """All posts of a job."""
        with self._lock:
            return [post for post in self.posts if post.event["job"] == job]

    def check(self) -> None:
        """Everything was signed, under its own id, and no event came before an earlier one of its job was taken."""
        assert self.wrong == []
        for job in {post.event["job"] for post in self.posts}:
            versions = [int(event["id"].partition(":")[2]) for event in self.events(job)]
            assert versions == sorted(versions)

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        event, at = json.loads(body), time.monotonic()
        answer = self.answer(event)
        genuine = is_genuine(self._secret, request.headers.get("Haul-Signature", ""), body, time.time())
        with self._lock:
            self.posts.append(Post(event, dict(request.headers), request.path, answer, genuine, at))
            if request.headers["Haul-Event-Id"] != event["id"] or (self._secret and not genuine):
                self.wrong.append(f"{event['id']} is not what it says")
            self._check_order(event, answer)
        with contextlib.suppress(OSError):
            self._reply(request, answer)

    def _check_order(self, event: Event, answer: Answer) -> None:
        """What comes for the first time comes after all that was posted of the job before was taken."""
        seen = [post.event["id"] for post in self.posts if post.event["job"] == event["job"]][:-1]
        taken = self._taken.setdefault(event["job"], [])
        if event["id"] not in seen and set(seen) - set(taken):
            self.wrong.append(f"{event['id']} came before {set(seen) - set(taken)} was taken")
        if answer == 204:
            taken.append(event["id"])

    def _reply(self, request: BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer == HANG:
            self._letting_go.wait(HANG_S)
        if isinstance(answer, int):
            request.send_response(answer)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()
