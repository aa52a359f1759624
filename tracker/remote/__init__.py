"""A store behind a tracking server: the ports over HTTP."""
