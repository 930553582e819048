"""Receipts: for each row, everything that contributed to its label."""
