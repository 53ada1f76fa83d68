"""Values as people write them, in settings and requests: read, and written so that they can be read again."""
