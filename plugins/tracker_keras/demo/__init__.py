"""The demo: an image classifier trained five times with Keras' own callbacks, every training on the record."""
