"""TensorBoard: records what its callback writes, and writes event files without TensorFlow."""
