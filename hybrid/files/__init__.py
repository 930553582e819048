"""Files as the rest of the project reads and writes them."""
