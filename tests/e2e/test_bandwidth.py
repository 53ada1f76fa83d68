"""One budget of bandwidth over both engines, as each of them says itself. The rate is measured by `make bench ARGS=bandwidth`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.contract.peer import Peer
from tests.e2e.engines import Aria2, Qbittorrent
from tests.e2e.stack import Stack, eventually
from tests.origin import content
from tests.torrents import pack

MIB = 1024 * 1024
BUDGET = 4 * MIB
#: More than is fetched in the whole test.
SIZE = 300 * MIB
#: A division every two seconds by each owner, with snapshots a second old, and a loaded machine.
SOON_S = 30.0


def test_engines_at_work_are_held_to_their_parts_and_who_is_left_to_all_of_it(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", engines=("aria2", "qbittorrent")) as stack:
        stack.work(HAUL_BANDWIDTH="4 MiB")
        one = stack.ask(f"file/one.bin?size={SIZE}&seed=1", "ann")
        made = pack({"only": content(SIZE, 2)}, name="two.bin", single=True)
        two = stack.ask_all([{"uri": stack.origin.document("two.torrent", made.document), "user": "bob", "engine": "qbittorrent"}])[0]
        aria2, qbittorrent = stack.engines["aria2"], stack.engines["qbittorrent"]
        assert isinstance(aria2, Aria2)
        assert isinstance(qbittorrent, Qbittorrent)
        with closing(Peer(made, qbittorrent.ask("app/preferences")["listen_port"])):
            eventually(lambda: all(0.4 < part < 0.6 for part in parts(stack)), "each has a half", SOON_S, lambda: parts(stack))
            assert sum(parts(stack)) <= 1

            aria2.rpc("changeGlobalOption", {"max-overall-download-limit": "2048"})
            assert parts(stack)[0] < 0.1
            eventually(lambda: 0.4 < parts(stack)[0] < 0.6, "what somebody changed is put right", SOON_S, lambda: parts(stack))

            stack.act(two, "cancel")
            eventually(lambda: parts(stack)[0] > 0.9, "aria2 has what nobody else can use", SOON_S, lambda: parts(stack))
            stack.act(one, "cancel")


def parts(stack: Stack) -> list[float]:
    """What of the budget aria2, and qBittorrent, is held to."""
    return [stack.engines[name].throttled() / BUDGET for name in ("aria2", "qbittorrent")]
