"""A training that goes on where the same script died."""
