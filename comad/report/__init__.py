"""One self-contained HTML page of all tables, curves and pictures; no torch import."""
