"""The cases: each tries to make Haul, or an engine, reach an address that is nobody's on the public network.

A case says what stops it in the mode `checked`: the door, the check before an engine gets the job, or nothing. What the check cannot
stop is tried to the end, so that this list stays true; the kernel's guard stops all of it.

`pub.test` is a public server, `a-10-66-0-1.test` a name for 10.66.0.1, and so on: see `world.py`. `ID` is the case's own mark, by which
whatever was reached tells which case reached it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, unquote

from tests.torrents import bencode

PORT = 8099
PUBLIC = f"http://pub.test:{PORT}"

Stop = Literal["door", "check", "stripped", "nothing"]


@dataclass(frozen=True)
class Case:
    """One attempt.

    Attributes:
        uri: what a user asks for; `torrent` is what the file has beside its `info`, for one that is uploaded.
        stop: what stops it in the mode `checked`; `stripped` has the job go on without the address.
        reaches: without any guard aria2 gets there, when it is given it as it is; False for what it cannot, or need not, read.
        why: of a case that nothing stops.
        to: the address that tells the case, where what is said to it does not.
    """

    id: str
    uri: str = ""
    torrent: Mapping[str, Any] = field(default_factory=dict)
    stop: Stop = "door"
    reaches: bool = False
    why: str = ""
    to: str = ""

    def reached(self, hits: Iterable[tuple[str, str]]) -> bool:
        """Whether it is among what was reached: (address, what was said to it)."""
        mark = re.compile(rf"/{re.escape(self.id)}(?![\w-])")
        return any(address == self.to or mark.search(said) for address, said in hits)

    @property
    def of_torrents(self) -> bool:
        """Whether an engine that knows torrents alone is given it as it is."""
        return bool(self.torrent) or self.uri.lower().startswith("magnet:")

    @property
    def document(self) -> bytes | None:
        """The `.torrent` file; its infohash is its own."""
        if not self.torrent:
            return None
        info = {"name": f"t-{self.id}", "piece length": 16_384, "length": 5, "pieces": b"0" * 20}
        return bencode({**self.torrent, "info": info})


#: Spellings of hosts -> whether aria2 gets there when nothing stops it.
SPELLED: Sequence[tuple[str, bool]] = (
    # loopback
    *(("127.0.0.1", True), ("127.0.0.2", True), ("127.255.255.254", True), ("127.1", True), ("127.0.1", True), ("0177.0.0.1", True)),
    *(("0x7f.0.0.1", True), ("0x7f.1", True), ("0x7f000001", True), ("2130706433", True), ("017700000001", True), ("0177.1", True)),
    *(("0X7F.1", True), ("127.0x1", True), ("00000177.0.0.1", True), ("0x0000007f.0.0.1", True), ("127.0.0.1.", False)),
    *(("localhost", True), ("LOCALHOST", True), ("localhost.", False), ("foo.localhost", False), ("ip6-localhost", False)),
    *(("[::1]", True), ("[0:0:0:0:0:0:0:1]", True), ("[::0001]", True), ("[::ffff:127.0.0.1]", True), ("[::ffff:7f00:1]", True)),
    *(
        ("[0:0:0:0:0:ffff:127.0.0.1]", True),
        ("[::127.0.0.1]", True),
        ("0.0.0.0", True),
        ("0", True),
        ("0x0", True),
        ("000.000.000.000", True),
    ),
    *(("[::]", True), ("[::0]", True), ("0.0.0.1", True)),
    # private
    *(
        ("10.66.0.1", True),
        ("10.255.255.255", True),
        ("012.0102.0.1", True),
        ("0xa.0x42.0.1", True),
        ("172097537", True),
        ("10.4325377", True),
    ),
    *(("0x0a420001", True), ("01220400001", True), ("172.16.66.1", True), ("172.31.255.254", True), ("192.168.66.1", True)),
    *(("0xc0a84201", True), ("3232252417", True), ("192.168.16897", True), ("192.11026945", True), ("010.0.0.1", False)),
    *(("[::ffff:10.66.0.1]", True), ("[::ffff:a42:1]", True), ("[fd00::66]", True), ("[fc00::66]", True), ("[fdff:ffff::1]", True)),
    # link-local, the clouds' own
    *(("169.254.169.254", True), ("169.254.1.1", True), ("0xa9fea9fe", True), ("2852039166", True), ("0251.0376.0251.0376", True)),
    *(("[::ffff:169.254.169.254]", True), ("[fe80::66]", False), ("[fe80::66%25eth0]", False), ("[fd00:ec2::254]", True)),
    *(("168.63.129.16", True), ("100.100.100.200", True), ("192.0.0.192", True)),
    # what else is nobody's
    *(("100.64.66.1", True), ("100.127.255.254", True), ("192.0.2.1", True), ("198.51.100.1", True), ("203.0.113.1", True)),
    *(("198.18.0.1", True), ("198.19.255.254", True), ("192.88.99.1", True), ("224.0.0.1", False), ("239.255.255.250", False)),
    *(("240.0.0.1", True), ("255.255.255.255", False), ("0xffffffff", False), ("192.0.0.8", True), ("192.31.196.1", True)),
    *(("192.52.193.1", True), ("192.175.48.1", True), ("[ff02::1]", False), ("[fec0::1]", True), ("[2001:db8::1]", True)),
    *(("[3fff::1]", True), ("[2001:2::1]", True), ("[100::1]", True), ("[4000::1]", True), ("[9000::1]", True)),
    # IPv4 inside IPv6
    *(("[2002:7f00:1::]", True), ("[2002:a42:1::1]", True), ("[2001:0:a42:1::1]", True), ("[64:ff9b::7f00:1]", True)),
    *(("[64:ff9b::10.66.0.1]", True), ("[64:ff9b:1::a42:1]", True), ("[::ffff:0:127.0.0.1]", True), ("[2a10::5efe:10.66.0.1]", True)),
    *(("[2a10::200:5efe:a42:1]", True), ("[2a10::0:5efe:8.8.8.8]", True)),
    # other scripts, and what programs read differently
    *(("１２７.0.0.1", False), ("127。0。0。1", False), ("①②⑦.⓪.⓪.①", False), ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", False), ("loc­alhost", False)),
    *(("127.0.0.1%20", False), ("127%2e0%2e0%2e1", False), ("%31%32%37.0.0.1", False), ("127.0.0.1%00.pub.test", False)),
    *(("4294967297", False), ("127.0.0.1.1", False), ("256.0.0.1", False), ("0x7f.0.0.0x1ff", False), ("[::1%251]", True)),
    *(("pub.test@127.0.0.1", True), ("pub.test:80@127.0.0.1", True), ("127.0.0.1\\@pub.test", False), ("pub.test\\@127.0.0.1", True)),
    *(("a@b@127.0.0.1", True), ("a@127.0.0.1@pub.test", False), ("127.0.0.1\\.pub.test", False), ("pub.test#@127.0.0.1", False)),
    *(("[v1.127.0.0.1]", False),),
)
#: What qBittorrent gets nowhere with though aria2 does, when nothing stops it: libtorrent has rules of its own for trackers and web
#: seeds in local networks, and follows no redirect of a web seed into one.
NOT_BY_QBITTORRENT = frozenset({"tracker-5", "tracker-login", "seed-ftp", "seed-moved"})
#: A private address in a place where a public host is read by some: nothing of it is the host, so the door lets it pass.
NO_HOSTS = frozenset({"pub.test#@127.0.0.1"})


def cases() -> list[Case]:
    """All of them."""
    made = [*_spelled(), *_schemes(), *_names(), *_redirects(), *_magnets(), *_torrents(), *_documents(), *_open()]
    assert len({case.id for case in made}) == len(made)
    return made


def _spelled() -> Iterator[Case]:
    for number, (host, reaches) in enumerate(SPELLED):
        stop: Stop = "nothing" if host in NO_HOSTS else "door"
        if stop == "door":
            yield Case(f"s{number}", f"http://{host}:{PORT}/s{number}", reaches=reaches)


def _schemes() -> Iterator[Case]:
    yield Case("port80", "http://10.66.0.1/port80", reaches=True)
    yield Case("upper", f"HTTP://127.0.0.1:{PORT}/upper")
    yield Case("https", f"https://10.66.1.1:{PORT}/https", reaches=True, to="10.66.1.1")
    yield Case("ftp", f"ftp://10.66.1.2:{PORT}/ftp", reaches=True, to="10.66.1.2")
    yield Case("ftp-decimal", f"ftp://172097795:{PORT}/ftp-decimal", reaches=True, to="10.66.1.3")
    yield Case("torrent-url", f"http://10.66.0.1:{PORT}/torrent-url/x.torrent", reaches=True)
    yield Case("metalink-url", f"http://10.66.0.1:{PORT}/metalink-url/x.metalink", reaches=True)
    for scheme in ("gopher", "file", "dict", "ldap", "sftp", "ws", "data", "jar"):
        yield Case(f"scheme-{scheme}", f"{scheme}://127.0.0.1:{PORT}/scheme-{scheme}")


def _names() -> Iterator[Case]:
    for address in ("127-0-0-1", "10-66-0-1", "172-16-66-1", "192-168-66-1", "169-254-169-254", "100-64-66-1", "0-0-0-0", "198-18-0-1"):
        yield Case(f"name-{address}", f"http://a-{address}.test:{PORT}/name-{address}", stop="check", reaches=True)
    yield Case("name-v6", f"http://six-fd00--66.test:{PORT}/name-v6", stop="check")
    yield Case("name-v6-loopback", f"http://six---1.test:{PORT}/name-v6-loopback", stop="check")
    yield Case("name-mapped", f"http://six---ffff-7f00-1.test:{PORT}/name-mapped", stop="check")
    yield Case("name-nat64", f"http://six-64-ff9b--a42-1.test:{PORT}/name-nat64", stop="check")
    yield Case("name-6to4", f"http://six-2002-a42-1--1.test:{PORT}/name-6to4", stop="check")
    yield Case("name-upper", f"http://A-10-66-0-1.TEST:{PORT}/name-upper", stop="check", reaches=True)
    yield Case("name-dot", f"http://a-10-66-0-1.test.:{PORT}/name-dot", stop="check", reaches=True)
    yield Case("name-alias", f"http://alias.test:{PORT}/name-alias", stop="check", reaches=True)
    yield Case("name-mixed", f"http://mixed.test:{PORT}/name-mixed", stop="check")
    yield Case("name-mixed-families", f"http://families.test:{PORT}/name-mixed-families", stop="check", reaches=True)
    yield Case("name-unknown", f"http://unknown.test:{PORT}/name-unknown", stop="check")
    yield Case("name-login", f"http://pub.test:x@a-10-66-0-1.test:{PORT}/name-login", stop="check", reaches=True)
    yield Case("name-https", f"https://a-10-66-1-4.test:{PORT}/name-https", stop="check", reaches=True, to="10.66.1.4")
    yield Case("name-ftp", f"ftp://a-10-66-1-5.test:{PORT}/name-ftp", stop="check", reaches=True, to="10.66.1.5")
    yield Case("name-torrent", f"http://a-10-66-0-1.test:{PORT}/name-torrent/x.torrent", stop="check", reaches=True)
    yield Case("name-metalink", f"http://a-10-66-0-1.test:{PORT}/name-metalink/x.metalink", stop="check", reaches=True)


def _redirects() -> Iterator[Case]:
    for status in (301, 302, 303, 307, 308):
        yield _moved(f"moved-{status}", f"http://10.66.0.1:{PORT}/moved-{status}", status=status, reaches=True)
    for number, host in enumerate(("127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:10.66.0.1]", "[fd00::66]", "a-10-66-0-1.test", "0")):
        yield _moved(f"moved-to-{number}", f"http://{host}:{PORT}/moved-to-{number}", reaches=True)
    for hops in (2, 5, 6, 12):
        yield _moved(f"moved-hops-{hops}", f"http://10.66.0.1:{PORT}/moved-hops-{hops}", hops=hops, reaches=True)
    yield _moved("moved-slashes", f"//10.66.0.1:{PORT}/moved-slashes", reaches=True)
    yield _moved("moved-login", f"http://pub.test@10.66.0.1:{PORT}/moved-login", reaches=True)
    yield _moved("moved-backslash", f"http://pub.test\\@10.66.0.1:{PORT}/moved-backslash", reaches=True)
    yield _moved("moved-percent", f"http://10%2e66%2e0%2e1:{PORT}/moved-percent")
    yield _moved("moved-ftp", f"ftp://10.66.1.6:{PORT}/moved-ftp", reaches=True, to="10.66.1.6")
    yield _moved("moved-file", "file:///etc/passwd")
    yield _moved("moved-gopher", f"gopher://10.66.0.1:{PORT}/moved-gopher")
    yield _moved("moved-torrent", f"http://10.66.0.1:{PORT}/moved-torrent", name="x.torrent", reaches=True)
    yield _moved("moved-metalink", f"http://10.66.0.1:{PORT}/moved-metalink", name="x.metalink", reaches=True)


def _moved(id: str, target: str, *, status: int = 302, hops: int = 1, name: str = "x", reaches: bool = False, to: str = "") -> Case:
    return Case(id, f"{PUBLIC}/moved/{status}/{hops}/{quote(target, safe='')}/{name}", stop="check", reaches=reaches, to=to)


def _magnets() -> Iterator[Case]:
    def magnet(id: str, parameters: str, stop: Stop = "door", *, reaches: bool = False, to: str = "") -> Case:
        digest = id.encode().hex().ljust(40, "0")[-40:]
        return Case(id, f"magnet:?xt=urn:btih:{digest}&{parameters}", stop=stop, reaches=reaches, to=to)

    def place(host: str, id: str, scheme: str = "http") -> str:
        return quote(f"{scheme}://{host}:{PORT}/announce/{id}", safe="")

    for number, host in enumerate(
        ("127.0.0.1", "10.66.0.1", "2130706433", "0x7f.1", "[::1]", "[fd00::66]", "169.254.169.254", "localhost")
    ):
        yield magnet(f"magnet-tr-{number}", f"tr={place(host, f'magnet-tr-{number}')}", reaches=True)
    for key in ("ws", "as", "xs", "mt"):
        yield magnet(f"magnet-{key}", f"{key}={place('10.66.0.1', f'magnet-{key}')}")
    yield magnet("magnet-tr-upper", f"TR={place('10.66.0.1', 'magnet-tr-upper')}")
    yield magnet("magnet-tr-one", f"tr.1={place('10.66.0.1', 'magnet-tr-one')}")
    yield magnet("magnet-tr-second", f"tr={place('pub.test', 'x')}&tr={place('10.66.0.1', 'magnet-tr-second')}")
    yield magnet("magnet-tr-key", f"t%72={place('10.66.0.1', 'magnet-tr-key')}")
    yield magnet("magnet-tr-plain", f"tr=http://10.66.0.1:{PORT}/announce/magnet-tr-plain", reaches=True)
    yield magnet("magnet-udp", f"tr={place('10.66.0.2', 'magnet-udp', 'udp')}", reaches=True, to="10.66.0.2")
    yield magnet("magnet-peer", f"x.pe=10.66.0.10:{PORT}", to="10.66.0.10")
    yield magnet("magnet-peer-v6", "x.pe=::1:8099")
    yield magnet("magnet-node", f"dht=10.66.0.11:{PORT}", to="10.66.0.11")
    yield magnet("magnet-name", f"tr={place('a-10-66-0-1.test', 'magnet-name')}", "stripped", reaches=True)
    yield magnet("magnet-name-udp", f"tr={place('a-10-66-0-3.test', 'magnet-name-udp', 'udp')}", "stripped", reaches=True, to="10.66.0.3")
    yield magnet("magnet-name-ws", f"ws={place('a-10-66-0-1.test', 'magnet-name-ws')}", "stripped")


def _torrents() -> Iterator[Case]:
    def at(host: str, id: str, scheme: str = "http") -> str:
        return f"{scheme}://{host}:{PORT}/announce/{id}"

    for number, host in enumerate(
        ("127.0.0.1", "10.66.0.1", "3232252417", "0251.0376.0251.0376", "[::1]", "[::ffff:10.66.0.1]", "localhost")
    ):
        yield Case(f"tracker-{number}", torrent={"announce": at(host, f"tracker-{number}")}, reaches=True)
        yield Case(f"seed-{number}", torrent={"url-list": at(host, f"seed-{number}")}, reaches=True)
    public, id = at("pub.test", "x"), "tracker-list"
    yield Case(id, torrent={"announce": public, "announce-list": [[public], [public, at("10.66.0.1", id)]]})
    yield Case("tracker-udp", torrent={"announce": at("10.66.0.4", "tracker-udp", "udp")}, reaches=True, to="10.66.0.4")
    yield Case("tracker-login", torrent={"announce": at("pub.test@10.66.0.1", "tracker-login")}, reaches=True)
    yield Case("tracker-backslash", torrent={"announce": at("10.66.0.1\\@pub.test", "tracker-backslash")})
    yield Case("tracker-wide", torrent={"announce": at("１２７.0.0.1", "tracker-wide")})
    yield Case("seed-list", torrent={"url-list": [at("pub.test", "x"), at("10.66.0.1", "seed-list")]}, reaches=True)
    yield Case("seed-ftp", torrent={"url-list": at("10.66.1.7", "seed-ftp", "ftp")}, reaches=True, to="10.66.1.7")
    yield Case("seed-http", torrent={"httpseeds": [at("10.66.0.1", "seed-http")]})
    yield Case("node", torrent={"nodes": [["10.66.0.5", PORT]]}, reaches=True, to="10.66.0.5")
    yield Case("node-v6", torrent={"nodes": [["::1", PORT]]})
    yield Case("tracker-name", torrent={"announce": at("a-10-66-0-1.test", "tracker-name")}, stop="stripped", reaches=True)
    yield Case(
        "tracker-name-udp",
        torrent={"announce": at("a-10-66-0-6.test", "tracker-name-udp", "udp")},
        stop="stripped",
        reaches=True,
        to="10.66.0.6",
    )
    yield Case("seed-name", torrent={"url-list": [at("a-127-0-0-1.test", "seed-name")]}, stop="stripped", reaches=True)
    yield Case("node-name", torrent={"nodes": [["a-10-66-0-7.test", PORT]]}, stop="stripped", reaches=True, to="10.66.0.7")


def _documents() -> Iterator[Case]:
    """Documents of a public server: the torrents and metalinks of `world.py`."""
    yield Case("fetched-tracker", f"{PUBLIC}/torrent/announce/10.66.0.1/fetched-tracker/x.torrent", stop="check", reaches=True)
    yield Case("fetched-seed", f"{PUBLIC}/torrent/url-list/127.0.0.1/fetched-seed/x.torrent", stop="check", reaches=True)
    yield Case("fetched-name", f"{PUBLIC}/torrent/announce/a-10-66-0-1.test/fetched-name/x.torrent", stop="stripped", reaches=True)
    for number, host in enumerate(("10.66.0.1", "127.0.0.1", "2130706433", "a-10-66-0-1.test", "[::1]")):
        id = f"metalink-{number}"
        yield Case(id, f"{PUBLIC}/metalink/{host}/{id}/x.metalink", stop="check", reaches=True)
    yield Case("metalink-entity", f"{PUBLIC}/entity/10.66.0.1/metalink-entity/x.metalink", stop="check")
    yield Case("meta4", f"{PUBLIC}/meta4/10.66.0.1/meta4/x.meta4", stop="check", reaches=True)


def _open() -> Iterator[Case]:
    """What the check cannot stop."""
    later = "the server answers the engine otherwise than the check"
    yield _free("later-method", f"{PUBLIC}/later/method/10.66.0.1/later-method/x", later)
    yield _free("later-agent", f"{PUBLIC}/later/agent/127.0.0.1/later-agent/x", later)
    yield _free("later-second", f"{PUBLIC}/later/second/10.66.0.1/later-second/x", later)
    yield _free("later-silent", f"{PUBLIC}/later/silent/10.66.0.1/later-silent/x", "the server does not answer the check at all")
    rebinding = "the name leads elsewhere when the engine resolves it again"
    yield _free("rebind-http", f"http://rebind-http.test:{PORT}/rebind-http", rebinding)
    yield _free("rebind-ftp", f"ftp://rebind-ftp.test:{PORT}/rebind-ftp", rebinding, "10.66.2.2")
    yield _free("rebind-magnet", f"magnet:?xt=urn:btih:{'b1' * 20}&tr=http://rebind-magnet.test:{PORT}/announce/rebind-magnet", rebinding)
    tracker = {"announce": f"http://rebind-torrent.test:{PORT}/announce/rebind-torrent"}
    yield Case("rebind-torrent", torrent=tracker, stop="nothing", why=rebinding)
    inside = "the content of a plain link is a document that aria2 follows"
    yield _free("inside-metalink", f"{PUBLIC}/typed/metalink/10.66.0.1/inside-metalink/x", inside)
    yield _free("inside-torrent", f"{PUBLIC}/typed/torrent/10.66.0.1/inside-torrent/x", inside)
    yield _free("link-header", f"{PUBLIC}/link/10.66.0.1/link-header/x", "aria2 takes mirrors from the header Link (RFC 6249)")
    yield _free("tracker-moved", f"magnet:?xt=urn:btih:{'b2' * 20}&tr={_quoted('moved/302/1', 'tracker-moved')}", "trackers redirect")
    moved = unquote(_quoted("moved/302/1", "tracker-moved-torrent"))
    yield Case("tracker-moved-torrent", torrent={"announce": moved}, stop="nothing", why="trackers redirect")
    moved = unquote(_quoted("moved/302/1", "seed-moved"))
    yield Case("seed-moved", torrent={"url-list": moved}, stop="nothing", why="web seeds redirect")
    yield _free(
        "peers", f"magnet:?xt=urn:btih:{'b3' * 20}&tr={quote(f'{PUBLIC}/peers/10.66.0.9/x', safe='')}", "trackers name peers", "10.66.0.9"
    )


def _quoted(kind: str, id: str) -> str:
    return quote(f"{PUBLIC}/{kind}/{quote(f'http://10.66.0.1:{PORT}/{id}', safe='')}/x", safe="")


def _free(id: str, uri: str, why: str, to: str = "") -> Case:
    return Case(id, uri, stop="nothing", why=why, to=to)
