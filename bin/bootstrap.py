#!/usr/bin/env python3
"""Puts `uv` at the path given, for a machine that has Python 3.11 and nothing else: no pip, no venv, no curl.

The address and the SHA-256 of the file are those of uv.lock. SSL_CERT_FILE and the proxy variables are honoured.
"""

import hashlib
import io
import os
import platform
import re
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"Python 3.11 or later is needed; {sys.executable} is {platform.python_version()}")

import tomllib

TIMEOUT_S = 60
LOCK = Path(__file__).resolve().parent.parent / "uv.lock"


def main(target: Path) -> None:
    """Fetch, check and unpack; the file appears whole or not at all."""
    package = next(p for p in tomllib.loads(LOCK.read_text())["package"] if p["name"] == "uv")
    wheel = next((w for w in package["wheels"] if any(map(fits, tags(w["url"])))), None)
    if wheel is None:
        sys.exit(f"uv.lock has no uv for {platform.system()} {platform.machine()}: install uv, then run this again")
    print(f"fetching uv {package['version']} …", file=sys.stderr)
    data = fetch(wheel["url"])
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    if digest != wheel["hash"]:
        sys.exit(f"{wheel['url']} is not the file uv.lock names: its hash is {digest}, not {wheel['hash']}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        program = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(archive.read(program))
    fresh.chmod(0o755)
    fresh.replace(target)


def tags(url: str) -> list[str]:
    """The platforms a wheel's file name ends with."""
    return url.rpartition("-")[2].removesuffix(".whl").split(".")


def fits(tag: str) -> bool:
    """Whether a wheel of this platform tag runs here."""
    match = re.fullmatch(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)", tag)
    if not match or match[4] != platform.machine():
        return False
    family, version = match[1], (int(match[2]), int(match[3]))
    if family == "macosx":
        return sys.platform == "darwin" and version <= numbers(platform.mac_ver()[0])
    if sys.platform != "linux":
        return False
    libc, libc_version = platform.libc_ver()
    return version <= numbers(libc_version) if family == "manylinux" and libc == "glibc" else family == "musllinux" and libc != "glibc"


def numbers(version: str) -> tuple[int, ...]:
    """`2.36` as (2, 36)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def fetch(url: str) -> bytes:
    """The bytes behind a URL; ends the program with the reason when they cannot be had."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return response.read()
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"cannot fetch {url}: {getattr(error, 'reason', error)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
