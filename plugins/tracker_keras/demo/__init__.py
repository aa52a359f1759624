"""The demo: an image classifier trained five times with the tutorials' callbacks, every training on the record."""
