"""Recipes as files: found, read, and written for own data."""
