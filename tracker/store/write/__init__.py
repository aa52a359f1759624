"""The write path: what clients send becomes rows, in one transaction for a group of writes."""
