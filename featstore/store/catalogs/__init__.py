"""Catalogs: what users know about the images, apart from the features."""
