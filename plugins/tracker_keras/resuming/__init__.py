"""Saving the state of a training and resuming it in a later process."""
