"""One `fit()` as a run records it: epochs, decisions, description."""
