"""MLflow over HTTP: Tracker answers the hot routes, MLflow's own application the others and the UI."""
