"""What beat runs: data only, so that it can be read, tested and changed without any of our code."""

BEAT_SCHEDULE = {
    # The second net under the nudges; the supervisor sweeps every 10 seconds.
    "sweep": {"task": "haul.sweep", "schedule": 60.0, "options": {"queue": "haul.control", "expires": 50}},
}
