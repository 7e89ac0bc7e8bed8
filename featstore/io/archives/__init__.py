"""Zip, tar and TFRecord files, and compressed streams."""
