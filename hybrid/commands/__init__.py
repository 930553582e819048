"""The commands of `hybrid` that run a recipe or inspect the teacher's work."""
