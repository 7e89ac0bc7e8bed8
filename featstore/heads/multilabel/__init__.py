"""Heads for images that have several labels: one classifier for each label against all other images."""
