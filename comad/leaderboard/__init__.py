"""From run records to leaderboard tables; plain Python, no torch import."""
