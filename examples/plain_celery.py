"""A bot that has Celery and not our package: it sends the task `haul.enqueue`.

    python examples/plain_celery.py redis://:password@127.0.0.1:6379/0 https://host/file.iso

Flower and Celery's events show the arguments of this task: send no link that carries a secret this way, use the client.
"""

from __future__ import annotations

import sys

from celery import Celery


def main(broker: str, uri: str) -> int:
    """Sends one request."""
    app = Celery("bot", broker=broker)
    app.conf.broker_transport_options = {"socket_timeout": 10, "socket_connect_timeout": 5}
    # The same key is the same job, however often it is sent; what is wrong with a request comes as the event `job.refused`.
    request = {"source": {"uri": uri}, "user": "42", "key": "chat-7:message-2"}
    app.send_task("haul.enqueue", kwargs=request, queue="haul.control", ignore_result=True, retry=False)
    print("sent")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
