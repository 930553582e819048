"""What is measured of a classifier, how sure the figure is, and the baseline that it has to beat."""
