"""Options that several commands share, and what becomes of them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from worker.jobs.model import Request
    from worker.settings import Settings

Urls = Annotated[
    list[str],
    typer.Argument(
        metavar="URL…", help="http, https, ftp, a magnet link, the URL of a .torrent or metalink file, or a .torrent file of this machine."
    ),
]
Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="Job ids; the first 6 characters do when they name one job.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="A job id; its first 6 characters do when they name one job.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors too (on stderr).")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the file; the server's when left out.")]
Sha256 = Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="The job fails unless the file has this checksum.")]
Hash = Annotated[bool, typer.Option("--hash", help="Compute and print the file's SHA-256.")]
User = Annotated[str, typer.Option("--user", help="Whose job it is.")]
Tier = Annotated[str, typer.Option("--tier", help="The user's tier.")]
Key = Annotated[str | None, typer.Option("--key", help="Your own name for the job; asking again under it makes no second job.")]
Priority = Annotated[int, typer.Option("--priority", help="0 to 1000, larger goes first.")]
EngineName = Annotated[str | None, typer.Option("--engine", metavar="NAME", help="The engine to use; `haul engines list` shows them.")]
Select = Annotated[str | None, typer.Option("--select", metavar="1,3-5", help="Files of a torrent or metalink, by number.")]
SeedRatio = Annotated[float | None, typer.Option("--seed-ratio", help="Seed a torrent until this ratio.")]
Category = Annotated[str | None, typer.Option("--category", help="Category at the engine.")]
MaxSpeed = Annotated[str | None, typer.Option("--max-speed", metavar="RATE", help="Bytes a second it may take, such as 2M or '500 KiB'.")]
Webhook = Annotated[str | None, typer.Option("--webhook", metavar="URL", help="Post its events there: one of HAUL_WEBHOOKS.")]
Guard = Annotated[bool, typer.Option("--guard", help="Refuse private and local addresses, as for jobs of others.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Directory to put the file in.", file_okay=False)]


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def specs(urls: Sequence[str], out: Path | None, **fields: Any) -> list[dict[str, Any]]:
    """What `worker.jobs.requests.parse` takes, one for each different URL.

    Raises:
        Rejected: an option that describes one file goes with several URLs, or a `.torrent` file cannot be read.
    """
    from worker.jobs.errors import Rejected

    different = list(dict.fromkeys(urls))
    if len(different) > 1:
        for field in ("name", "sha256", "key"):
            if fields.get(field) is not None:
                raise Rejected(field, "goes with one URL only", fix="call haul once for each URL")
    given = {name: value for name, value in fields.items() if value is not None}
    directory = {"out": str(out.expanduser().absolute())} if out is not None else {}
    return [{**_source(url), **directory, **given} for url in different]


def _source(url: str) -> dict[str, str]:
    """The URL; or the content of the `.torrent` file that is named, which nobody but the owner's own command reads."""
    if _SCHEME.match(url) or not url.lower().endswith(".torrent"):
        return {"uri": url}
    from worker.jobs.errors import Rejected
    from worker.jobs.torrents import TORRENT_BYTES_MAX

    try:
        with Path(url).expanduser().open("rb") as file:
            document = file.read(TORRENT_BYTES_MAX + 1)
    except OSError as error:
        fix = "check its path; the address of one on the web begins with https://"
        raise Rejected("torrent", f"cannot read {url}: {error.strerror}", fix=fix) from None
    if len(document) > TORRENT_BYTES_MAX:
        raise Rejected("torrent", f"{url} is larger than {TORRENT_BYTES_MAX} bytes", fix="use the magnet link")
    if not document:
        raise Rejected("torrent", f"{url} is empty", fix="fetch it again")
    return {"torrent": base64.b64encode(document).decode()}


def check(request: Request, settings: Settings) -> None:
    """What a door would refuse, refused before a stack is started for it.

    Raises:
        Rejected: the settings have no engine of this name, or the address is private and the request guarded.
        SettingsError: an engine's address is wrong.
    """
    from worker.settings import EMBEDDED
    from worker.stack import Stack

    if request.guarded:
        from worker.admission import egress

        egress.check(request.source, settings.allow_networks, request.document)
    if request.engine is None:
        return
    from worker.cli.embedded import qbittorrent_of
    from worker.engines.registry import build_engines
    from worker.jobs.errors import Rejected

    names = ("aria2", "qbittorrent") if qbittorrent_of(settings) else ("aria2",)
    unstarted = Stack(0, EMBEDDED, tuple(f"{name}+http://user:none@127.0.0.1:1?name={name}" for name in names), None, {})
    known = build_engines(settings.connected(unstarted).engine_addresses, directory=settings.data_dir, slots=settings.slots)
    if request.engine not in known:
        raise Rejected("engine", f"there is no engine {request.engine!r}", fix=f"one of: {', '.join(sorted(known))}")
