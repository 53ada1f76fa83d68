"""The broker as workers read it: a message that cannot be read or dealt with is put aside, counted, and ends no worker.

Without this a message that is no JSON, or not shaped as Celery expects, ends the loop and with it the process; one that had been
taken over by then goes back to its queue and ends the next worker, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery.app.amqp import AMQP
from celery.worker import consumer
from kombu import Connection
from kombu.transport import redis

from worker import logs
from worker.coordination.bounds import Bounds

#: What kombu meets in a text that is no message.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)

log = logs.get(__name__)


class Channel(redis.Channel):
    """Reads on behind a message that cannot be read.

    Attributes:
        parked_key: the stream that keeps what is put aside, beside parked messages of the intake.
    """

    from_transport_options = (*redis.Channel.from_transport_options, "parked_key")
    parked_key = "haul:intake:parked"

    def park(self, text: str, error: BaseException) -> None:
        """Keep a message that nobody can deal with, cut, among the newest of them. Its text stays out of the log: it may hold secrets."""
        log.error("a message of the broker cannot be dealt with; it is put aside", error=type(error).__name__)
        bounds = Bounds()
        fields = {"error": type(error).__name__, "body": text.encode(errors="replace")[: bounds.parked_bytes]}
        with self.conn_or_acquire() as client:
            client.xadd(self.parked_key, fields, maxlen=bounds.parked_max)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except UNREADABLE as error:
            self.park(getattr(error, "doc", ""), error)
            return True

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge. Raises ConnectionResetError when the connection was lost: the message comes again, and its step finds nothing to do.

        kombu 5.7 has a channel without a transport then, and the AttributeError would end the worker.
        """
        self._require_connection()
        super().basic_ack(delivery_tag, multiple=multiple)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give back, or drop. Raises as `basic_ack` does."""
        self._require_connection()
        super().basic_reject(delivery_tag, requeue=requeue)

    def _require_connection(self) -> None:
        if getattr(self.connection, "client", None) is None:
            raise ConnectionResetError("the connection to the broker was lost")

    def close(self) -> None:
        """Close, also while Redis is away; what cannot be given back then comes after the visibility time-out.

        kombu 5.7 closes a channel a second time when the first time failed, without the transport that giving back takes, and the
        AttributeError would end the worker.
        """
        with suppress(AttributeError):
            super().close()


class Transport(redis.Transport):
    """Redis, read by our channels."""

    Channel = Channel


class BrokerConnection(Connection):
    """A connection by our transport, whose address reads `redis://` all the same."""

    def get_transport_cls(self) -> type[Transport]:
        """The transport of every channel."""
        return Transport


class Amqp(AMQP):
    """Celery's way to the broker; the application names it."""

    Connection = BrokerConnection


class Consumer(consumer.Consumer):
    """Parks what Celery discards, and what it would fall over."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """The handler of one message; a fault in it that is not the connection's is the message's."""
        deal = super().create_task_handler(*args, **options)
        passing = tuple(error for error in (*self.connection_errors, *self.channel_errors) if error is not KeyError)

        def deal_or_park(message: Any) -> None:
            try:
                deal(message)
            except passing:
                raise
            except Exception as error:
                self.on_decode_error(message, error)

        return deal_or_park

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Its body, or what it says of itself, cannot be understood."""
        message.channel.park(json.dumps(message._raw), exc)
        if not message.acknowledged:
            message.ack()

    def on_invalid_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002 - Celery passes them all
        """Its content is of a type we do not take, or its fields are wrong."""
        self.on_decode_error(message, exc)

    def on_unknown_task(self, body: Any, message: Any, exc: BaseException) -> None:  # noqa: ARG002
        """Nobody here has such a task."""
        self.on_decode_error(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:  # noqa: ARG002
        """It is no task."""
        self.on_decode_error(message, TypeError("no task"))
