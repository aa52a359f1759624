"""TensorBoard: what its callback writes, on record; histograms of weights; event files without TensorFlow."""
