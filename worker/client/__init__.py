"""What a bot imports: ask for downloads and hear of them over Redis, look at them over HTTP.

Needs neither an engine, nor a store, nor Celery. A call returns in seconds, whatever is down; an asynchronous bot makes
it in a thread.
"""

from worker.client.client import Client, Ticket
from worker.jobs.errors import Conflict, NotFound, Rejected, Transient

__all__ = ["Client", "Conflict", "NotFound", "Rejected", "Ticket", "Transient"]
