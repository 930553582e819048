"""Recipe files: find one, read one, and write one for a user's own data."""
