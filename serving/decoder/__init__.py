"""The decoder behind the service: it decides what the encoder is not sure of, and never delays anything else."""
