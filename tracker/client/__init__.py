"""The client inside training code: a run writes a journal, a thread ships it."""
