"""Receipts: for each row, everything that made its label."""
