"""How fast steps and data loading are, measured side by side with what others would write."""
