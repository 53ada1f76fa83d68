"""The records in a MongoDB database."""
