"""Push every image through a frozen network once, keep the features, train any head on them in seconds.

The public names are imported when they are first used, so that opening a store loads neither TensorFlow
nor scikit-learn.

Examples
--------
>>> import featstore
>>> store = featstore.FeatureStore("flowers.fstore")  # doctest: +SKIP
>>> table = store.table()  # doctest: +SKIP
>>> head = featstore.fit(table, head="svm")  # doctest: +SKIP
"""

import lazy_loader

from featstore.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
