"""The embedded sample: patterns, digits and clips in the layouts of the real data sets."""
