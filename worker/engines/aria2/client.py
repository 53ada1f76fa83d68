"""aria2p's client with kept connections and time-outs; its errors become ours."""

from __future__ import annotations

from typing import Any

import aria2p
import requests
from requests.adapters import HTTPAdapter

from worker.jobs.errors import Transient
from worker.pools import HTTP_CONNECTIONS

CONNECT_TIMEOUT_S = 3.0


class Aria2Client(aria2p.Client):
    """aria2p's client with kept connections; its own opens one for each call and waits a minute.

    It asks the server only what it is told to: no proxy, no `.netrc`.
    """

    def __init__(self, service: str, url: str, secret: str, timeout_s: float) -> None:
        super().__init__(host=url, secret=secret, timeout=timeout_s)
        self._service = service
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=HTTP_CONNECTIONS))

    @property
    def server(self) -> str:
        """The address as it was given."""
        return self._url

    def post(self, payload: Any, timeout_s: float | None = None) -> Any:
        """Send a request; the decoded answer."""
        read_s = self.timeout if timeout_s is None else timeout_s
        return self._session.post(self._url, data=payload, timeout=(min(CONNECT_TIMEOUT_S, read_s), read_s)).json()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def exchange(self, members: list[dict[str, Any]], left_s: float) -> Any:
        """One multicall; aria2's answer to it, not looked at.

        Raises:
            Transient: no answer within `left_s`, or none of aria2.
        """
        if left_s <= 0:
            raise Transient(self._service, "no answer in time")
        # The library's errors name the address and quote what was sent, and that holds the secret: `from None`.
        try:
            return self.res_or_raise(self.post(self.get_payload(self.MULTICALL, [members]), left_s))
        except aria2p.ClientException as error:
            raise Transient(self._service, f"aria2 refused the request: {error.message}") from None
        except requests.Timeout:
            raise Transient(self._service, "no answer in time") from None
        except requests.ConnectionError:
            raise Transient(self._service, "cannot be reached: is aria2 running, and is the address in HAUL_ENGINES right?") from None
        except (requests.RequestException, ValueError, KeyError, TypeError):
            raise Transient(self._service, "the answer is not one of aria2: check the address in HAUL_ENGINES") from None
