"""Fitting heads: choosing parameters, calibration and scoring."""
