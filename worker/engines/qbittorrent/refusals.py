"""How qBittorrent says no."""

from __future__ import annotations

from worker.jobs.errors import Transient

#: Some versions answer with the same status when the name or the port in the address is not the one they listen on.
WRONG = "user or password is wrong, or qBittorrent does not know itself by the host and port we use: correct HAUL_ENGINES and restart"


class Refused(Transient):
    """qBittorrent answered, and said no.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, service: str, status: int) -> None:
        super().__init__(service, f"qBittorrent answered with status {status}")
        self.status = status


class NotLoggedIn(Exception):
    """The session is unknown to qBittorrent: it is new, has run out, or qBittorrent was restarted."""


class LoginRefused(Exception):
    """The login was answered with no; the message says why and what to do."""
