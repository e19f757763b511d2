"""Random mutations of what users bring: options, data and weight files, thousands in minutes."""
