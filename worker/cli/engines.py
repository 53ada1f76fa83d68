"""The commands that take an engine out of work and back: drain and undrain."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import options
from worker.cli.output import Exit, note, print_json

if TYPE_CHECKING:
    from worker.ports import Services

LOOK_EVERY_S = 1.0

Name = Annotated[str, typer.Argument(metavar="NAME", help="The engine; `haul engines list` shows their names.")]
Move = Annotated[bool, typer.Option("--move", help="Queue what it downloads again for other engines, which fetch it from the first byte.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when nothing runs there any more.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before downloads begin anew.")]


def drain(name: Name, move: Move = False, wait: Wait = False, yes: Yes = False, as_json: options.Json = False) -> None:
    """Give an engine nothing new, as before a reboot of its machine; it stays so until `haul engines undrain`.

    What it downloads goes on to its end, and what it seeds is left. With --move other engines fetch it anew; what no other
    engine can fetch stays.

    Example: haul engines drain aria2-2 --wait
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        if move and not yes and sys.stdin.isatty():
            _confirm(name, _engine(services, name))
        pipeline.drain(services, name, move=move)
        engine = _engine(services, name)
        if wait:
            engine = _waited(services, engine, quiet=as_json)
    _say(engine, as_json)


def undrain(name: Name, as_json: options.Json = False) -> None:
    """Give a drained engine work again.

    Example: haul engines undrain aria2-2
    """
    from worker import pipeline
    from worker.cli.connect import connected

    with connected() as services:
        pipeline.undrain(services, name)
        engine = _engine(services, name)
    _say(engine, as_json)


def _engine(services: Services, name: str) -> Mapping[str, Any]:
    """The engine as `haul engines list` shows it; of one that is drained and not set up its name alone."""
    from worker import pipeline

    known: dict[str, Mapping[str, Any]] = {engine["name"]: engine for engine in pipeline.overview(services)["engines"]}
    return known.get(name, {"name": name, "state": "unknown", "running": 0, "live": 0, "seeding": 0})


def _confirm(name: str, engine: Mapping[str, Any]) -> None:
    if engine["live"] and not typer.confirm(f"{engine['live']} downloads of {name} begin anew on other engines, from byte 0. Go on?"):
        note("nothing was changed")
        raise typer.Exit(Exit.FAILED)


def _waited(services: Services, engine: Mapping[str, Any], *, quiet: bool) -> Mapping[str, Any]:
    """The engine as soon as it is drained, or is taken back by somebody else."""
    from worker.jobs.errors import Transient

    told, name = None, engine["name"]
    try:
        while engine["state"] == "draining":
            if not quiet and engine["running"] != told:
                told = engine["running"]
                note(f"{name}: {told} still {'runs' if told == 1 else 'run'}")
            time.sleep(LOOK_EVERY_S)
            try:
                engine = _engine(services, name)
            except Transient as error:
                note(f"{error}; it is looked at again")
    except KeyboardInterrupt:
        note(f"{name} stays draining; `haul engines undrain {name}` gives it work again")
        raise typer.Exit(Exit.INTERRUPTED) from None
    return engine


def _say(engine: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(dict(engine))
        return
    seeding = f"; {engine['seeding']} torrents still seed there" if engine["seeding"] else ""
    words = {
        "draining": f"is given nothing new; {engine['running']} still {'runs' if engine['running'] == 1 else 'run'} there",
        "drained": f"is drained: nothing runs there{seeding}",
        "unknown": "is not set up, and is not drained any more",
    }
    sys.stdout.write(f"{engine['name']} {words.get(engine['state'], 'is given work')}\n")
