"""The commands of `hybrid` that look at the teacher's work."""
