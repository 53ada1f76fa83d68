"""The HTTP door: jobs, events, health and metrics."""
