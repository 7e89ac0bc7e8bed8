"""The pipeline from sources to features: read, hash, decode, forward pass, store; ``stream`` runs it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
