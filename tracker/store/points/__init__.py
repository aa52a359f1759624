"""Points of series: rows and rollups, the rule of supersession, history and thinning."""
