"""From run records to leaderboard tables, which are DataFrames; imports pandas, never torch."""
