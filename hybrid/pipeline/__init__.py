"""From a recipe to its outcome: the stages in their order, and the run on disk."""
