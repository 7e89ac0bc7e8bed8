"""The review of a store's labels: a queue of doubtful images, and a page to decide on them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
