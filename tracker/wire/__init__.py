"""What crosses a boundary, and its bytes: frames on disk, batches and records over HTTP."""
