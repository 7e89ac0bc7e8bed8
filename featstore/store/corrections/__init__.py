"""Corrections of labels, kept by the content of the images."""
