"""Description of a fit's data."""
