"""The embedded sample: scenes of handwritten digits, written in the layouts of the real data sets."""
