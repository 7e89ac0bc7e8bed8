"""Metrics and confidence intervals as pure functions of arrays."""
