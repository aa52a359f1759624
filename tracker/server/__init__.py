"""The tracking server: many trainers write and many readers read through it, over one store."""
