"""Plots of scores, and TensorBoard logs."""
