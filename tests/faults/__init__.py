"""Every fault that Haul claims to survive, provoked for real; `docs/faults.md` is generated from these tests."""
