"""Is this container's service well? `python -I -S probe.py http URL | aria2 | qbittorrent | fresh SECONDS`; exit 0 when it is.

Standard library only, and no site packages: a probe runs a few times a minute in every container.
"""

import json
import os
import sys
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_S = 4
#: From where an engine is asked: the address for which egress.nft lets loopback connections pass.
OWN = ("127.0.0.77", 0)


def http(url: str) -> bool:
    """The service answers 200."""
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        return answer.status == 200


def aria2() -> bool:
    """The engine answers a call with our secret."""
    secret = Path(os.environ["ARIA2_SECRET_FILE"]).read_text().strip()
    call = {"jsonrpc": "2.0", "id": "probe", "method": "aria2.getVersion", "params": [f"token:{secret}"]}
    status, answer = engine(6800, "POST", "/jsonrpc", json.dumps(call).encode())
    return status == 200 and "version" in json.loads(answer)["result"]


def qbittorrent() -> bool:
    """The engine answers, and strangers not. It is asked without a login: those that fail count towards a ban."""
    return engine(8080, "GET", "/api/v2/app/version")[0] == 403


def engine(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of an engine's answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S, source_address=OWN)
    with closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def fresh(seconds: str) -> bool:
    """The process has touched HAUL_ALIVE_PATH that lately."""
    return time.time() - Path(os.environ["HAUL_ALIVE_PATH"]).stat().st_mtime < float(seconds)


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    try:
        well = {"http": http, "aria2": aria2, "qbittorrent": qbittorrent, "fresh": fresh}[kind](*arguments)
    except (URLError, OSError, HTTPException) as error:
        sys.exit(f"{kind}: {error}")
    sys.exit(0 if well else f"{kind}: not well")
