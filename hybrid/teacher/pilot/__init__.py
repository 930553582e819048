"""The pilot: which way of asking is worth its price, measured on trusted rows before the spend."""
