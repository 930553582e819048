"""Fits parts of a bundle on calibration rows: calibration, threshold, drift reference and the decoder's reliability."""
