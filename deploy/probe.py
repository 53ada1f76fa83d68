"""Is this container's service well? `python -I -S probe.py http URL | aria2 | qbittorrent | fresh SECONDS`; exit 0 when it is.

Standard library only, and no site packages: a probe runs a few times a minute in every container.
"""

import json
import os
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

TIMEOUT_S = 4


def http(url: str) -> bool:
    """The service answers 200."""
    with urlopen(url, timeout=TIMEOUT_S) as answer:
        return answer.status == 200


def aria2() -> bool:
    """The engine answers a call with our secret."""
    secret = Path(os.environ["ARIA2_SECRET_FILE"]).read_text().strip()
    call = {"jsonrpc": "2.0", "id": "probe", "method": "aria2.getVersion", "params": [f"token:{secret}"]}
    with urlopen(Request("http://127.0.0.1:6800/jsonrpc", json.dumps(call).encode()), timeout=TIMEOUT_S) as answer:
        return "version" in json.load(answer)["result"]


def qbittorrent() -> bool:
    """The engine answers, and strangers not. It is asked without a login: those that fail count towards a ban."""
    try:
        http("http://127.0.0.1:8080/api/v2/app/version")
    except HTTPError as refusal:
        return refusal.code == 403
    return False


def fresh(seconds: str) -> bool:
    """The process has touched HAUL_ALIVE_PATH that lately."""
    return time.time() - Path(os.environ["HAUL_ALIVE_PATH"]).stat().st_mtime < float(seconds)


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    try:
        well = {"http": http, "aria2": aria2, "qbittorrent": qbittorrent, "fresh": fresh}[kind](*arguments)
    except (URLError, OSError) as error:
        sys.exit(f"{kind}: {error}")
    sys.exit(0 if well else f"{kind}: not well")
