"""The rows of a run: read and checked, compared for near-duplicates, trusted, and turned into training targets."""
