"""What runs by the clock: data only, so that it can be read, tested and changed without any of our code.

Beat's messages are nudges. What counts is the ledger of runs in the records: each time of day at which something is due is taken there
once, whoever looks first and however many beats there are. `clock` looks each minute for what nobody has taken: it is caught up inside
its window, or written down as missed. Times of day are those of HAUL_TIMEZONE; a night that has its 02:00 twice, or never, has one run.
"""

from collections.abc import Mapping
from typing import Any

from celery.schedules import crontab

MINUTE, HOUR, DAY = 60, 3_600, 86_400

#: A message that waited longer is dropped: the look of the next minute has sent another one. Shorter than every period.
EXPIRES_S = 50

#: cron: minute, hour, day of the month, month, day of the week.
#: window_s: how late one that was missed is still caught up; shorter than its period, so that it never meets the next one.
#: lane: of the works of one lane one runs at a time, on all machines together.
#: first: a new installation does not wait for the first time of day; the others begin with the next one.
#: at_start: it also runs when a worker has started, once in ten minutes.
CLOCK: Mapping[str, Mapping[str, Any]] = {
    # The records, settings and engines' sessions. When few are awake, and before anything is removed by `retention`.
    "backup": {"cron": "0 2 * * *", "window_s": 16 * HOUR, "lane": "records"},
    # What is old enough to go: finished jobs, runs, files. By then the night's backup has it.
    "retention": {"cron": "30 4 * * *", "window_s": 12 * HOUR, "lane": "records"},
    # The newest backup is restored into a scratch database and compared, on the first of each month.
    "drill": {"cron": "0 5 1 * *", "window_s": 7 * DAY, "lane": "records"},
    # The indexes of the store against those declared, on Sundays; nothing is changed.
    "indexes": {"cron": "0 6 * * 0", "window_s": 2 * DAY, "lane": "records"},
    # How this system does, against the hours before.
    "baseline": {"cron": "5 * * * *", "window_s": 45 * MINUTE, "lane": "figures", "first": True},
    # The capture of that hour, at a calm one, against those of the days before: what grows in the course of one no hour shows.
    "baseline-daily": {"cron": "35 3 * * *", "window_s": 16 * HOUR, "lane": "figures"},
    # What each engine has, does and lacks, for the history.
    "engines": {"cron": "20 * * * *", "window_s": 30 * MINUTE, "lane": "figures"},
    # Reads that will be asked for, before most people come home; and when a restart has emptied the cache.
    "warm": {"cron": "30 17 * * *", "window_s": 1 * HOUR, "lane": "figures", "at_start": True},
}

BEAT_SCHEDULE = {
    # The second net under the nudges, and what is wrong with the waiting index; the supervisor sweeps every 10 seconds.
    # Store and engines are reconciled each minute by the engines' owners themselves, who alone hold the leases for that.
    "sweep": {"task": "haul.sweep", "schedule": 60.0, "options": {"queue": "haul.control", "expires": EXPIRES_S}},
    # What is due by the ledger, whether or not one of the messages below was sent, or lost.
    "clock": {"task": "haul.clock", "schedule": 60.0, "options": {"queue": "haul.control", "expires": EXPIRES_S}},
    **{
        name: {
            "task": f"haul.maintenance.{name}",
            "schedule": crontab.from_string(entry["cron"]),
            "options": {"queue": "haul.maintenance", "expires": EXPIRES_S},
        }
        for name, entry in CLOCK.items()
    },
}
