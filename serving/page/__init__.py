"""The page at `/`: try a text, paste a column, choose a threshold, and watch the service."""
