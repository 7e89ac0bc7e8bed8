"""Extraction on several machines: shards that machines take by number, and a cluster of Ray."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
