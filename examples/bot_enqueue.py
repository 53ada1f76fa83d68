"""A bot that asks for a download and tells its user how it went.

Run it beside `haul up`:  python examples/bot_enqueue.py redis://:password@127.0.0.1:6379/0 https://host/file.iso
"""

from __future__ import annotations

import sys

from worker.client import Client, Rejected, Transient

ENDS = ("job.completed", "job.failed", "job.cancelled", "job.refused")


def main(redis_url: str, uri: str) -> int:
    """Exit code 0 when the file is there."""
    with Client(redis_url) as client:
        try:
            # The chat and message are the key: a message that is handled twice is still one download.
            ticket = client.enqueue(uri, user="42", key="chat-7:message-1", confirm_s=5)
        except (Rejected, Transient) as error:
            print(f"Sorry: {error}")
            return 1
        print(f"job {ticket.id} is {ticket.status}")
        # "0-0" is the place before all events; a bot that runs on keeps the `place` of the last one it dealt with.
        for event in client.events(user="42", after="0-0"):
            if event.get("job") == ticket.id:
                print(event["type"], event.get("path") or event["text"])
                if event["type"] in ENDS:
                    return 0 if event["type"] == "job.completed" else 1
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
