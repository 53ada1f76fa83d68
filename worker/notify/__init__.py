"""Tells the outside what became of jobs: from the records to the event stream."""
