"""The review queue: where another human look is worth most, out to annotation tools and back as trusted rows."""
