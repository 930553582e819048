"""The decoder behind the service: asked about what the encoder is not sure of, and never in the way of the rest."""
