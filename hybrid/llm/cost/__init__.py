"""Prices, the ledger of money, and what a run will cost."""
