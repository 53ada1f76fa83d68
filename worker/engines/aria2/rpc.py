"""aria2's JSON-RPC: several calls in one request, an answer to each, one deadline for all that belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from worker.engines.deadline import Deadline
from worker.jobs.errors import Transient

if TYPE_CHECKING:
    from worker.engines.aria2.client import Aria2Client

UNAUTHORIZED = "Unauthorized"

Call = tuple[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """aria2's answer to one call it would not do; the code is always 1, only the text tells."""

    text: str


class Aria2Rpc:
    """What the adapter says to one aria2.

    Args:
        name: of the engine, for errors.
        url: `http://host:port/jsonrpc`, without the secret.
    """

    def __init__(self, name: str, url: str, secret: str, timeout_s: float) -> None:
        self._service = f"engine {name}"
        self._url = url
        self._secret = secret
        self._timeout_s = timeout_s

    @cached_property
    def _client(self) -> Aria2Client:
        # aria2p is slow to import, and a process that only opens doors never talks to an engine.
        from worker.engines.aria2.client import Aria2Client

        return Aria2Client(self._service, self._url, self._secret, self._timeout_s)

    def multicall(self, calls: Sequence[Call], deadline: Deadline) -> list[Any]:
        """Make all calls in one request; the answers in order, `Refusal` for those that failed.

        Raises:
            Transient: no answer in time, not an answer of aria2, or the secret is wrong.
        """
        token = [f"token:{self._secret}"] if self._secret else []
        members = [{"methodName": method, "params": [*token, *params]} for method, params in calls]
        answers = self._client.exchange(members, deadline.left_s)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise Transient(self._service, "the answer is not one of aria2: check the address in HAUL_ENGINES")
        results = [answer[0] if isinstance(answer, list) else Refusal(str(answer.get("message", ""))) for answer in answers]
        if any(isinstance(result, Refusal) and result.text == UNAUTHORIZED for result in results):
            raise Transient(self._service, "the RPC secret is wrong: set in HAUL_ENGINES the one aria2 was started with (rpc-secret)")
        return results

    def close(self) -> None:
        """Release the connections, if there were any."""
        if "_client" in self.__dict__:
            self._client.close()
