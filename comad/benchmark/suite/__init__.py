"""One command that measures all that matters on the machine that is there, within minutes."""
