"""TensorBoard: records its callback's events, histograms of weights, and writes event files without TensorFlow."""
