"""What a run asks of its language models: whom about which rows, in what order, and what that costs."""
