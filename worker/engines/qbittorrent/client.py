"""qbittorrent-api's client, held to one request a call; its errors become ours.

By itself it tries everything again twice, with pauses and new logins, guesses http or https by requests of its own, asks the
version before many calls, follows redirects, and reads settings and proxies from the environment. What it is used for: the
names and parameters of the API in all its versions, the login's many answers, and the classes of errors.
"""

from __future__ import annotations

from typing import Any

import qbittorrentapi
import requests

from worker.engines.qbittorrent.refusals import WRONG, LoginRefused, NotLoggedIn, Refused
from worker.jobs.errors import Transient
from worker.pools import HTTP_CONNECTIONS

CONNECT_TIMEOUT_S = 3.0
NOT_ONE = "the answer is not one of qBittorrent: check the address in HAUL_ENGINES"


class QbittorrentClient(qbittorrentapi.Client):
    """One request a call, within the time it is given, to the address it is given."""

    def __init__(self, service: str, url: str, user: str, secret: str) -> None:
        super().__init__(
            host=url,
            username=user,
            password=secret,
            FORCE_SCHEME_FROM_HOST=True,
            SIMPLE_RESPONSES=True,
            REQUESTS_ARGS={"allow_redirects": False},
            HTTPADAPTER_ARGS={"max_retries": 0, "pool_connections": 1, "pool_maxsize": HTTP_CONNECTIONS},
        )
        # What was empty came from the environment.
        self.username, self._password, self._api_key, self._VERIFY_WEBUI_CERTIFICATE = user, secret, "", True
        self._service = service
        self._version = ""
        self._url.build_base_url({}, {})  # asks nobody, for the scheme is given; afterwards the session is the one that stays
        self._session.trust_env = False

    def exchange(self, method: str, arguments: dict[str, Any], left_s: float) -> Any:
        """The answer to one of the client's methods.

        Raises:
            NotLoggedIn: the session is not, or no longer, known.
            LoginRefused: by the method that logs in: user or password is wrong.
            Refused: another status that says something about the request.
            Transient: no answer within `left_s`, or none of qBittorrent.
        """
        if left_s <= 0:
            raise Transient(self._service, "no answer in time")
        timeouts = (min(CONNECT_TIMEOUT_S, left_s), left_s)
        # The library's errors hold the request, and that may hold the password: `from None`.
        try:
            return getattr(self, method)(**arguments, requests_args={"timeout": timeouts})
        except qbittorrentapi.LoginFailed:
            raise LoginRefused(WRONG) from None
        except qbittorrentapi.HTTP403Error:
            raise NotLoggedIn from None
        except qbittorrentapi.HTTP5XXError as error:
            raise Transient(self._service, f"qBittorrent answered with status {error.http_status_code}") from None
        except qbittorrentapi.HTTPError as error:
            raise Refused(self._service, error.http_status_code) from None
        except requests.Timeout:
            raise Transient(self._service, "no answer in time") from None
        except requests.ConnectionError:
            raise Transient(self._service, "cannot be reached: is qBittorrent running, and is the address in HAUL_ENGINES right?") from None
        except (requests.RequestException, qbittorrentapi.APIError, ValueError):
            raise Transient(self._service, NOT_ONE) from None

    def learn_version(self, left_s: float) -> tuple[int, ...]:
        """Ask once for the version of the API; it decides how some calls are made."""
        self._version = ""
        version = str(self.exchange("app_web_api_version", {}, left_s)).strip()
        if not version.replace(".", "").isdecimal():
            raise Transient(self._service, NOT_ONE)
        self._version = version
        return tuple(map(int, version.split(".")))

    def app_web_api_version(self, **request: Any) -> str:
        """The version of the API, from memory once it was asked."""
        return self._version or super().app_web_api_version(**request)

    def app_version(self, **_: Any) -> str:
        """The oldest version that gets so far; the library only asks whether it is older still."""
        return "v4.5.0"

    def program_version(self, **request: Any) -> str:
        """The version of the program itself, asked each time."""
        return super().app_version(**request)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _auth_request(self, *_: Any, **request: Any) -> Any:
        """One request: no second try, no login, no question about versions."""
        for name in ("version_introduced", "version_removed"):
            request.pop(name, None)
        return self._request(**request)

    def _initialize_context(self) -> None:
        """Forget the login; the library would make a new session of requests, with its own settings."""
        self._session.cookies.clear()
