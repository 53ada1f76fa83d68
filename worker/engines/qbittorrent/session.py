"""What the adapter says to one qBittorrent: one login for all of it, one request a call.

Five refused logins ban an address for an hour, and a ban is for everybody behind it, with the right password too. So a login
that was refused is never tried again; a new process, with settings that somebody looked at, tries its own.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from worker.engines.deadline import Deadline
from worker.engines.qbittorrent.refusals import LoginRefused, NotLoggedIn
from worker.jobs.errors import Transient

if TYPE_CHECKING:
    from worker.engines.qbittorrent.client import QbittorrentClient

#: 4.5.0, the first that can stop a magnet link at its description; 4.5.2 is in Debian 12.
API_VERSION_MIN = (2, 8, 18)

BANNED = "it has banned this machine after too many wrong logins: correct HAUL_ENGINES, wait for an hour or restart it, then restart"
OLD = "this qBittorrent is too old: 4.5 or a newer one is needed; install one and restart"
LOST = "it does not keep the login: is another program between us and qBittorrent?"


class QbittorrentSession:
    """A login, shared by all threads of a process.

    Args:
        name: of the engine, for errors.
        url: `http://host:port`, without user and password.
    """

    def __init__(self, name: str, url: str, user: str, secret: str) -> None:
        self.service = f"engine {name}"
        self.url = url
        self._user = user
        self._secret = secret
        self._lock = threading.Lock()
        self._logins = 0
        self._refusal: str | None = None

    @cached_property
    def _client(self) -> QbittorrentClient:
        # The library is slow to import, and a process that only opens doors never talks to an engine.
        from worker.engines.qbittorrent.client import QbittorrentClient

        return QbittorrentClient(self.service, self.url, self._user, self._secret)

    def call(self, deadline: Deadline, method: str, **arguments: Any) -> Any:
        """The answer to a method of the library's client, logged in before if need be.

        Raises:
            Refused: qBittorrent answered with another status than success.
            Transient: no answer in time, none of qBittorrent, or it does not let us in.
        """
        logins = self._logins or self._log_in(deadline, 0)
        try:
            return self._exchange(deadline, method, arguments)
        except NotLoggedIn:
            self._log_in(deadline, logins)
        try:
            return self._exchange(deadline, method, arguments)
        except NotLoggedIn:
            raise Transient(self.service, LOST) from None

    def close(self) -> None:
        """Release the connections, if there were any."""
        if "_client" in self.__dict__:
            self._client.close()

    def _exchange(self, deadline: Deadline, method: str, arguments: dict[str, Any]) -> Any:
        if self._refusal:
            raise Transient(self.service, self._refusal)
        return self._client.exchange(method, arguments, deadline.left_s)

    def _log_in(self, deadline: Deadline, logins: int) -> int:
        """Log in unless another thread did since there were `logins`; how many there are now."""
        if not self._lock.acquire(timeout=deadline.left_s):
            raise Transient(self.service, "no answer in time")
        try:
            if self._logins == logins:
                self._exchange(deadline, "auth_log_in", {})
                if not self._version(deadline) >= API_VERSION_MIN:
                    raise LoginRefused(OLD)
                self._logins += 1
            return self._logins
        except (LoginRefused, NotLoggedIn) as refused:
            self._refusal = str(refused) or BANNED
            raise Transient(self.service, self._refusal) from None
        finally:
            self._lock.release()

    def _version(self, deadline: Deadline) -> tuple[int, ...]:
        try:
            return self._client.learn_version(deadline.left_s)
        except NotLoggedIn:  # it was let in, so this is no ban: what let it in was started again in between
            raise Transient(self.service, LOST) from None
