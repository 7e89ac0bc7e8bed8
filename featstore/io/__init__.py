"""Reading and writing files: atomic writes, and parsers that are safe on untrusted HDF5 and zip files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
