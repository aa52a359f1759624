"""MLflow's words for what the store holds: the plugin store, and what the server's MLflow routes answer from."""
