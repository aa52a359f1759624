"""Files that callbacks save, kept in the run's catalogue."""
