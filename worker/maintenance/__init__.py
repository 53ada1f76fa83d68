"""What is done by the clock: backups and their drills, baselines, warming, retention, care for the indexes."""
