"""Fitting classifiers, many settings at a time."""
