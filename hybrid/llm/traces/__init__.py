"""The trace store: answers that were paid for, by the key of their whole request; and recorded answers."""
