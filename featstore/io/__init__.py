"""Reading and writing files: atomic writes, and parsers that are safe on untrusted HDF5 and zip files."""
