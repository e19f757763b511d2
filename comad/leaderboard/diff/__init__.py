"""What differs between two runs or two commits: configs first, then figures and curves."""
