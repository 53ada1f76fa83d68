"""What Haul makes of a host that a router says it knows no way to: run in a network where one says so of 127.0.0.2."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from tests.contract.aria2 import Aria2Http
from tests.contract.engine_suite import http_order, submitted, until_status
from tests.origin import Origin
from tests.servers import aria2c_programs
from worker.ports import ItemStatus


def main() -> None:
    programs = aria2c_programs()
    program = programs["system"] or programs["wheel"]
    assert program is not None
    with Origin() as origin, closing(Aria2Http(program, Path(sys.argv[1]), origin)) as harness:
        order = http_order(harness, "no-way", path="/x")
        order = replace(order, source=replace(order.source, uri=order.source.uri.replace("127.0.0.1", sys.argv[2])))
        fault = until_status(harness, submitted(harness, order), ItemStatus.FAILED).fault
        assert fault is not None
        print(json.dumps([fault.cause, fault.detail]))


if __name__ == "__main__":
    main()
