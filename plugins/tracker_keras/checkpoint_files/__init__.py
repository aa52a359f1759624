"""Checkpoint files that callbacks save, and their copies in the run's catalogue."""
