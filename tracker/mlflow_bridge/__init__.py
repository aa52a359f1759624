"""The store as MLflow's entities: for MLflow's plugin store and for the server's MLflow routes."""
