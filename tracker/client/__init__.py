"""The client in the training process: a run writes a journal, and a thread ships it to the store."""
