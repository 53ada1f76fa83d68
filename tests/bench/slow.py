"""An origin for thousands of slow downloads in one thread: every second each connection gets a few bytes.

python -m tests.bench.slow     prints its URL; /NAME never ends within a benchmark, /quick/NAME ends at once
"""

from __future__ import annotations

import asyncio

SIZE_BYTES = 1 << 20
PIECE = b"x" * 500
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"


async def main() -> None:
    """Serve until killed."""
    slow: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        quick = request.split(" ")[1].startswith("/quick/")
        writer.write(HEAD.format(len(PIECE) if quick else SIZE_BYTES).encode() + PIECE)
        if quick:
            writer.close()
        else:
            slow.add(writer)

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    while True:
        await asyncio.sleep(1)
        for writer in list(slow):
            if writer.is_closing():
                slow.discard(writer)
            else:
                writer.write(PIECE)


if __name__ == "__main__":
    asyncio.run(main())
