"""From somewhere to pixels: sources of images, their bytes, and the decoding of these into arrays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
