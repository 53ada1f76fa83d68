"""Errors as problem documents (RFC 9457): what happened, which input is at fault and what to send instead."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Route

from worker.jobs.errors import Conflict, NoRoom, NotFound, Rejected, Transient

MEDIA_TYPE = "application/problem+json"

#: Seconds after which a caller may try again when a service did not answer; reconnecting takes about as long.
SERVICE_RETRY_S = 2


class Problem(BaseModel):
    """What every error answer looks like; members are added, never removed."""

    type: str = Field(description="`about:blank`: the status says it all")
    title: str
    status: int
    detail: str
    field: str | None = Field(default=None, description="the input at fault")
    fix: str | None = Field(default=None, description="what to send instead")


class ProblemResponse(JSONResponse):
    """A problem document.

    Args:
        detail: what happened, for a person, without secrets.
        retry_after_s: when the same request may succeed; rounded up for the header.
        more: further members of the document.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        fix: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        named = {name: value for name, value in (("field", field), ("fix", fix)) if value}
        after = {"Retry-After": str(max(1, math.ceil(retry_after_s)))} if retry_after_s is not None else {}
        super().__init__({**document, **named, **more}, status, {**(headers or {}), **after})


def install(app: FastAPI) -> None:
    """Make every error that a route raises on purpose a problem document."""
    app.add_exception_handler(Rejected, _rejected)
    app.add_exception_handler(Transient, _transient)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def of_rejected(error: Rejected) -> ProblemResponse:
    """404, 409, 507 when it will never fit, 429 when trying again may help, else 422."""
    status = 422 if error.retry_after_s is None else 429
    if isinstance(error, NoRoom):
        status = 507
    if isinstance(error, NotFound | Conflict):
        status = 404 if isinstance(error, NotFound) else 409
    detail = f"{error.field}: {error.detail}"
    return ProblemResponse(status, detail, field=error.field, fix=error.fix, retry_after_s=error.retry_after_s)


async def _rejected(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, Rejected)
    return of_rejected(error)


async def _transient(_request: Request, error: Exception) -> ProblemResponse:
    return ProblemResponse(503, str(error), fix="try again; the same request is safe to repeat", retry_after_s=SERVICE_RETRY_S)


async def _invalid(_request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where, *inner = first["loc"]
    field = inner[0] if inner and isinstance(inner[0], str) else str(where)
    message, fix = first["msg"], "see /docs for the form of it"
    if first["type"] == "extra_forbidden":
        message, fix = "there is no such field", "leave it out; /docs lists the fields"
    elif field == "body":
        fix = "send a JSON object with the header Content-Type: application/json"
    return ProblemResponse(422, f"{field}: {message}", field=field, fix=fix)


async def _http(request: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    if status == 405:
        allowed = ", ".join(sorted(_methods(request)))
        return ProblemResponse(status, f"{request.method} is none of its methods", fix=allowed, headers={**headers, "Allow": allowed})
    if status == 404:
        return ProblemResponse(status, "there is no such path", field="path", fix="/docs lists the paths", headers=headers)
    if status == 400:  # by the framework alone, of a body that it could not read
        return ProblemResponse(status, "body: cannot be read as JSON", field="body", fix="send a JSON object in UTF-8", headers=headers)
    return ProblemResponse(status, str(error.detail), headers=headers)


def _methods(request: Request) -> set[str]:
    """Of every route of the path; the framework names those of the first one only."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    return {method for route in routes if route.path_regex.match(request.url.path) for method in route.methods or ()}
