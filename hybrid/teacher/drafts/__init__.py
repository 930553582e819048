"""Drafts: texts that a teacher writes for rare classes, and the gate that decides whether they train."""
