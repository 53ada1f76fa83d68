"""What the processes share beside the records: intake, nudges, waiting index, progress, snapshots and events, on Redis or Valkey."""
