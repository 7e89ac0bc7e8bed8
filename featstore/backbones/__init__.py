"""Backbones: frozen networks from pixels to features.

Importing this loads no network library; that happens when a network is built or run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
