"""MLflow over HTTP: the hot routes by ourselves, the rest and the genuine UI by MLflow's own application."""
