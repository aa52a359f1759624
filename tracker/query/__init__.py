"""What readers ask for, as pure functions: the filter language, values in it, thinning. No I/O."""
