"""Artifact homes: storage of runs' files."""
