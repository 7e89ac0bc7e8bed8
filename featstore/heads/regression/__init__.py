"""Heads that predict a number of each image."""
