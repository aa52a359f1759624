"""The tracking server: many trainers write through it, every reader reads from it, over one store."""
