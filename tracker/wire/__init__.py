"""Encodings of what crosses a boundary: frames on disk, batches and records over HTTP."""
