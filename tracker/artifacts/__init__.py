"""Where files of runs live."""
