"""Export of a head and its backbones as one model file, from image to probabilities.

Importing this loads no network library; that happens when a model is written or run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
