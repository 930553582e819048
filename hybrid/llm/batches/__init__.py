"""Message Batches: half the price, answers within a day, and a journal that survives a crash."""
