"""The operator's file of tiers, in TOML, and what was set at run time put upon it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from worker.jobs.limits import GLOBAL, NONE, SCHEDULE, TABLES, WrongLimit, value
from worker.jobs.tiers import DEFAULTS, Limits, Overall, Tier
from worker.notation.bandwidth import read_budget

_OPEN = re.compile(r"""=\s*(\[[^\]]*|\"{3}.*|'{3}.*)$""")  # a value that goes on in the next line
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,63}")  # what a request may name as its tier


def parse(text: str) -> Limits:
    """The limits that a file of tiers says; the four default tiers are there in any case.

    Raises:
        WrongLimit: names the line, the field and the fix.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        detail, _, at = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+)", at)
        line = int(found[1]) if found else max(1, len(text.splitlines()))  # "at end of document"
        raise WrongLimit("", f"is not TOML: {detail}", "texts stand in quotes; a table begins with [tiers.NAME]", line) from None
    tiers, users, overall = dict(DEFAULTS), {}, Overall()
    try:
        for path, values in _tables(document):
            checked = {name: value(path[0], name, raw, ".".join(path)) for name, raw in values.items()}
            if path[0] == GLOBAL:
                overall = replace(overall, **checked)
            elif path[0] == "users":
                users[path[1]] = checked
            else:
                tiers[path[1]] = replace(tiers.get(path[1], Tier(path[1])), **checked)
    except WrongLimit as wrong:
        raise WrongLimit(wrong.field, wrong.detail, wrong.fix, line_of(text, wrong.field)) from None
    return Limits(tiers, overall, users)


def extended(base: Limits, overrides: Mapping[str, Any]) -> tuple[Limits, list[str]]:
    """Limits with those set at run time put upon them, and what of these nobody can read any more."""
    tiers, users = dict(base.tiers), {user: dict(own) for user, own in base.users.items()}
    overall, schedule, faults = base.overall, None, []
    for key, raw in sorted(overrides.items()):
        table, _, rest = key.partition("/")
        name, _, whose = rest.partition("/")
        if key == SCHEDULE:
            try:
                read_budget(str(raw))
                schedule = str(raw)
            except ValueError as wrong:
                faults.append(f"bandwidth: {wrong}")
            continue
        try:
            known = {name: value(table, name, NONE if raw is None else raw, key)}
        except WrongLimit as wrong:
            faults.append(str(wrong))
            continue
        if table == GLOBAL:
            overall = replace(overall, **known)
        elif table == "users":
            users.setdefault(whose, {}).update(known)
        elif whose in tiers:
            tiers[whose] = replace(tiers[whose], **known)
    return Limits(tiers, overall, users, schedule), faults


def line_of(text: str, path: str) -> int | None:
    """The line that sets a field, or opens a table, of a TOML document; each line is asked for itself what it says."""
    table, near = "", None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            named = _first_path(tomllib.loads(line if not _OPEN.search(line) else f"{line.partition('=')[0]}= 0"))
        except tomllib.TOMLDecodeError:  # a part of a value of several lines
            continue
        if line.lstrip().startswith("["):
            table, here = named, named
        else:
            here = ".".join(part for part in (table, named) if part)
        if named and here == path:
            return number
        if named and (path.startswith(f"{here}.") or here.startswith(f"{path}.")):
            near = number if path.startswith(here) else near or number  # the innermost table around it; the first within it
    return near


def _tables(document: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Path and fields of each table, and what has no business there refused."""
    for top, content in document.items():
        if top not in TABLES:
            near = get_close_matches(top, TABLES, 1)
            fix = f"did you mean {near[0]}?" if near else "one of: tiers.NAME, users.NAME, global"
            raise WrongLimit(top, "there is no such table", fix)
        if not isinstance(content, dict):
            raise WrongLimit(top, "must be a table", f"begin it with [{top}]" if top == GLOBAL else f"begin one with [{top}.NAME]")
        if top == GLOBAL:
            yield (top,), content
            continue
        for name, values in content.items():
            if not isinstance(values, dict):
                raise WrongLimit(f"{top}.{name}", "must be a table", f"put limits under [{top}.NAME]")
            if top == "tiers" and not _NAME.fullmatch(name):
                raise WrongLimit(f"{top}.{name}", "is not a name", "letters, digits, dot, dash and underscore, at most 64")
            yield (top, name), values


def _first_path(document: Mapping[str, Any]) -> str:
    """The path of the first key of a document of one line, inline tables not entered."""
    parts: list[str] = []
    level: Any = document
    while isinstance(level, dict) and len(level) == 1:
        [(key, level)] = level.items()
        parts.append(key)
    return ".".join(parts)
