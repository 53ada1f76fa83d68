"""The API by HTTP: problem documents become the errors of `worker.jobs.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from worker.jobs.errors import Conflict, NoRoom, NotFound, Rejected, Transient

if TYPE_CHECKING:
    from requests import PreparedRequest

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0


class Api:
    """The HTTP side; one pooled session, whose state no answer changes, for all threads."""

    def __init__(self, url: str, key: str | None) -> None:
        from requests import RequestException, Session  # here, so that a bot that uses Redis only need not load it

        self._url, self._key = url.rstrip("/"), key
        self._failure = RequestException
        self._session = Session()
        self._session.auth = self._authorize  # set, it keeps the passwords of a ~/.netrc out

    def get(self, path: str, params: Mapping[str, Any] | None = None, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The JSON object at a path. Raises Rejected and its kinds, or Transient."""
        try:
            limits = (min(CONNECT_TIMEOUT_S, timeout_s), min(ANSWER_TIMEOUT_S, timeout_s))
            response = self._session.get(self._url + path, params=params, timeout=limits)
            document = response.json()
        except self._failure as error:
            raise Transient("api", f"{self._url} does not answer as it should: {type(error).__name__}") from None
        if response.status_code == 200 and isinstance(document, dict):
            return document
        raise _problem(response.status_code, document if isinstance(document, dict) else {}, response.headers.get("Retry-After", ""))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _authorize(self, request: PreparedRequest) -> PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _problem(status: int, document: Mapping[str, Any], retry_after: str) -> Exception:
    """The error that a problem document of the API stands for."""
    field, detail = str(document.get("field") or "request"), str(document.get("detail") or f"HTTP status {status}")
    kind = {404: NotFound, 409: Conflict, 507: NoRoom}.get(status, Rejected)
    if (status >= 500 and kind is Rejected) or status < 400:
        return Transient("api", detail)
    after_s = float(retry_after) if retry_after.isdigit() else None
    return kind(field, detail.removeprefix(f"{field}: "), fix=str(document.get("fix") or ""), retry_after_s=after_s)
