"""Threads and warnings of the fits of one search."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from numpy.typing import NDArray

from featstore.heads.data.samples import Images
from featstore.heads.solvers.parallel import WarningNotes
from featstore.process import one_thread

__all__ = ["limits"]

# Multiplications in one pass over the features, below which a single thread is faster: twenty times for
# 1,000 x 1,280 features of 5 classes, slightly for 10,000 x 2,048 of 101; for 40,000 rows two threads win.
_ONE_THREAD_BELOW = 4 * 10**9


@contextmanager
def limits(
    images: Images, classes: NDArray[np.str_], *, n_tasks: int, is_kernel: bool = False
) -> Iterator[WarningNotes]:
    """Collect warnings, and limit the threads of linear algebra to what pays off."""
    # The limit does not depend on the number of parallel tasks: results could differ in their last bits.
    n_rows, dim = images.n_fitted, images.table.feature_dim
    work = n_rows**2 * (dim + n_rows) if is_kernel else n_rows * dim * len(classes)
    threads = one_thread if n_tasks > 1 or work < _ONE_THREAD_BELOW else nullcontext()
    with threads, WarningNotes() as notes:
        yield notes
