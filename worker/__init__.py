"""Haul: download jobs that survive a bad night."""
