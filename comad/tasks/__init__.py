"""The evaluations: kind, data, metrics and protocol fields of each."""
