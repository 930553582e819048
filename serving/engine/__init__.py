"""The encoder in a process of its own: it may die or hang without taking the service along."""
