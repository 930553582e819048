"""Rows on their way in: read, checked, told apart from their near copies, trusted, and as the loss sees them."""
