"""aria2's JSON-RPC over a pool of connections: several calls in one request, an answer to each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aria2p
import requests
from requests.adapters import HTTPAdapter

from worker.jobs.errors import Transient

CONNECT_TIMEOUT_S = 3.0
CONNECTIONS_MAX = 4
UNAUTHORIZED = "Unauthorized"

Call = tuple[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """aria2's answer to one call it would not do; the code is always 1, only the text tells."""

    text: str


class Deadline:
    """The time one operation has for all its requests together."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())


class _PooledClient(aria2p.Client):
    """aria2p's client with kept connections; its own opens one for each call and waits a minute.

    It asks the server only what it is told to: no proxy, no `.netrc`.
    """

    def __init__(self, url: str, secret: str, timeout_s: float) -> None:
        super().__init__(host=url, secret=secret, timeout=timeout_s)
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS_MAX))

    @property
    def server(self) -> str:
        """The address as it was given."""
        return self._url

    def post(self, payload: str, timeout_s: float | None = None) -> Any:
        """Send a request; the decoded answer."""
        read_s = self.timeout if timeout_s is None else timeout_s
        return self._session.post(self._url, data=payload, timeout=(min(CONNECT_TIMEOUT_S, read_s), read_s)).json()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


class Aria2Rpc:
    """What the adapter says to one aria2.

    Args:
        name: of the engine, for errors.
        url: `http://host:port/jsonrpc`, without the secret.
    """

    def __init__(self, name: str, url: str, secret: str, timeout_s: float) -> None:
        self._service = f"engine {name}"
        self._secret = secret
        self._client = _PooledClient(url, secret, timeout_s)

    def multicall(self, calls: Sequence[Call], deadline: Deadline) -> list[Any]:
        """Make all calls in one request; the answers in order, `Refusal` for those that failed.

        Raises:
            Transient: no answer in time, not an answer of aria2, or the secret is wrong.
        """
        token = [f"token:{self._secret}"] if self._secret else []
        members = [{"methodName": method, "params": [*token, *params]} for method, params in calls]
        payload = self._client.get_payload(self._client.MULTICALL, [members])
        answers = self._result(payload, deadline)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise Transient(self._service, "the answer is not one of aria2: check the address in HAUL_ENGINES")
        results = [answer[0] if isinstance(answer, list) else Refusal(str(answer.get("message", ""))) for answer in answers]
        if any(isinstance(result, Refusal) and result.text == UNAUTHORIZED for result in results):
            raise Transient(self._service, "the RPC secret is wrong: set in HAUL_ENGINES the one aria2 was started with (rpc-secret)")
        return results

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def _result(self, payload: Any, deadline: Deadline) -> Any:
        left_s = deadline.left_s
        if left_s <= 0:
            raise Transient(self._service, "no answer in time")
        # The library's errors name the address and quote what was sent, and that holds the secret: `from None`.
        try:
            return self._client.res_or_raise(self._client.post(payload, left_s))
        except aria2p.ClientException as error:
            raise Transient(self._service, f"aria2 refused the request: {error.message}") from None
        except requests.Timeout:
            raise Transient(self._service, "no answer in time") from None
        except requests.ConnectionError:
            raise Transient(self._service, "cannot be reached: is aria2 running, and is the address in HAUL_ENGINES right?") from None
        except (requests.RequestException, ValueError, KeyError, TypeError):
            raise Transient(self._service, "the answer is not one of aria2: check the address in HAUL_ENGINES") from None
