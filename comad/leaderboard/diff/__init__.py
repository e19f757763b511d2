"""What differs between two runs: configs first, then figures and curves."""
