"""The demo: trains an image classifier five times with the tutorial's callbacks, and records every training."""
