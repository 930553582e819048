"""From what the decoder said to the answer that the caller gets."""
