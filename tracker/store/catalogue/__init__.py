"""Experiments, runs without a journal, data sets and logged models: what MLflow's clients read and change."""
