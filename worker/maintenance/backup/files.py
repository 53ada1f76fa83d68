"""What is beside the records: settings, tiers, the list of engines, and what the embedded engines know of their downloads."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import SecretStr

from worker.maintenance.backup.durable import put, synced
from worker.settings import Settings

PART = "files.tar"
#: What belongs to the data directory lies there below this name, and goes back to its place; the rest is for a person to put back.
DATA = "data"
SETTINGS = "settings.json"
HIDDEN = "(not kept without a key)"
READ_BYTES = 256 * 1024
#: Below the data directory: patterns of what the embedded engines save of their downloads.
OF_ENGINES = ("aria2/aria2.session", "qbittorrent/qBittorrent/data/BT_backup/*")


def packed(settings: Settings, *, secrets: bool) -> Iterator[bytes]:
    """A tar of the files there are; those that vanish meanwhile are left out.

    Args:
        secrets: write passwords of the settings, which is only right in what is encrypted.
    """
    yield from _member(SETTINGS, io.BytesIO(settings_text(settings, secrets=secrets).encode()))
    for path in (settings.tiers, settings.engines_file if secrets else None):  # the addresses of engines have passwords in them
        if path is not None:
            yield from _file(path.name, path)
    for pattern in OF_ENGINES:
        for path in sorted(settings.data_dir.glob(pattern)):
            yield from _file(f"{DATA}/{path.relative_to(settings.data_dir).as_posix()}", path)
    yield bytes(2 * tarfile.BLOCKSIZE)


def settings_text(settings: Settings, *, secrets: bool) -> str:
    """The settings as JSON, by the names of their variables."""
    return json.dumps({f"HAUL_{name.upper()}": _plain(value, secrets) for name, value in settings}, indent=1) + "\n"


def unpack(chunks: Iterator[bytes], target: Path, data_dir: Path | None, *, replace: bool) -> list[str]:
    """Write the files of a tar: what belongs to the data directory there, the rest to `target`. They are durable then.

    One that is broken off leaves no half of a file: what is not whole is written the next time.

    Args:
        data_dir: None writes all of it to `target`.
        replace: put files of engines in the place of others; these are kept beside, as `….before-restore`.

    Returns:
        What was written, for people.
    """
    written: list[Path] = []
    with tarfile.open(fileobj=_Stream(chunks), mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            name = PurePosixPath(member.name)
            if not member.isfile() or name.is_absolute() or ".." in name.parts:
                continue
            source = archive.extractfile(member)
            assert source is not None
            place = target / name
            if data_dir is not None and name.parts[0] == DATA:
                place = data_dir.joinpath(*name.parts[1:])
                if place.exists():
                    if not replace and place.stat().st_size:
                        continue
                    os.replace(place, _free(place))
            put(place, iter(partial(source.read, READ_BYTES), b""))
            written.append(place)
    for _ in chunks:  # to its end, where it is compared
        pass
    for directory in {place.parent for place in written}:
        synced(directory)
    return [str(place) for place in written]


def _free(place: Path) -> Path:
    """Where a file is kept that another takes the place of; never in the place of one that was kept before."""
    names = (place.with_name(f"{place.name}.before-restore{f'-{number}' if number else ''}") for number in itertools.count())
    return next(path for path in names if not path.exists())


def _plain(value: Any, secrets: bool) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value() if secrets or not value.get_secret_value() else HIDDEN
    if isinstance(value, tuple):
        return [_plain(each, secrets) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _file(name: str, path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        if path.is_file():
            yield from _member(name, file)


def _member(name: str, file: Any) -> Iterator[bytes]:
    """Header and content; as long as the header says, whatever becomes of the file meanwhile."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    yield header.tobuf(tarfile.PAX_FORMAT)
    left = size
    while left:
        piece = file.read(min(READ_BYTES, left)) or bytes(min(READ_BYTES, left))
        left -= len(piece)
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)


class _Stream:
    """Chunks as a file that is read once."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._waiting = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._waiting) < size and (chunk := next(self._chunks, b"")):
            self._waiting += chunk
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        return piece
