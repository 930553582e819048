"""`hybrid score`: classify every row of a file of any size, in constant memory, and continue after an interruption."""
