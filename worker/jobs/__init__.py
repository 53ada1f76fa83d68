"""What a job is: its record, its states, its events and its errors. Standard library only."""
