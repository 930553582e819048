"""`hybrid doctor`: what this machine is, and what will happen on it."""
