"""Points of series: rows and blocks, the rule of supersession, history and thinning."""
