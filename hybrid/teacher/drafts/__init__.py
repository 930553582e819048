"""Texts that a teacher writes for rare classes, and whether they earn their place."""
