"""What a training row's label ought to be: consensus of its sources, or repair learned from trusted rows."""
