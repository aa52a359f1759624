"""Recording of one `fit()`: epochs, decisions, description."""
