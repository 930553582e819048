"""A GGUF model in the process."""
