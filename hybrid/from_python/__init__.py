"""`hybrid.fit`: rows that a Python program holds become a recipe and a run, and the run a result."""
