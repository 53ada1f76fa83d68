"""From the engine's work directory to where the user finds it: verified, moved, nothing overwritten."""
