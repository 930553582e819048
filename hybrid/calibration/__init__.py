"""Fit on calibration rows what a bundle carries: calibration, threshold, reference, the reliability of the decoder."""
