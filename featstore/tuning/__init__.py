"""Training the upper part of a network, from a linear head, on stored activation maps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
