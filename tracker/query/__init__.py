"""Pure functions for readers: the filter language, formats of values, thinning. No I/O."""
