"""Features of images that a store knows, in another space."""

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.errors import ExtractionError
from featstore.flow.loading import GivenItem
from featstore.flow.sealing import Sealer, store_features, uninterrupted
from featstore.io.stamps import is_there
from featstore.messages import listed
from featstore.store import FeatureStore, Space

__all__ = ["check_photos", "fill_known"]


def fill_known(
    store: FeatureStore,
    network: Backbone,
    paths: Sequence[str],
    content_hash: NDArray[np.uint8],
    *,
    n_views: int = 1,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Space, int]:
    """Compute the views that a space lacks of known images; return the space and how many were computed."""
    sealer = Sealer(store, network, n_views=n_views)
    is_lacking = ~sealer.are_there(content_hash)
    # A content is read once, from any of its files.
    _, first = np.unique(content_hash, axis=0, return_index=True)
    wanted = [paths[at] for at in np.sort(first).tolist() if is_lacking[at]]
    check_photos(wanted)
    reasons: dict[str, str] = {}
    n_done = 0
    try:
        # Closed at an error here, so that nothing is read or computed any more.
        with contextlib.closing(store_features(map(GivenItem, wanted), [sealer], workers=workers)) as groups:
            for group in groups:
                reasons |= {str(image.item.path): image.reason for image in group.images if image.reason}
                n_done += len(group.images)
                progress(min(n_done, len(wanted)), len(wanted))
    finally:
        uninterrupted(sealer.close)
    if sealer.n_rows:
        sealer.compact()
    lacking = np.flatnonzero(~Sealer(store, network, n_views=n_views).are_there(content_hash))
    if len(lacking):
        named = [_explained(paths[at], reasons) for at in lacking.tolist()]
        raise ExtractionError(
            f"{len(named):,} images are not what they were when their features were extracted: "
            f"{listed(named)}; run featstore extract on them again"
        )
    return store.space(network.spec.name), sealer.n_rows


def check_photos(paths: Sequence[str]) -> None:
    """Raise ExtractionError with the images that are not where the catalog has them."""
    if missing := [path for path in paths if not is_there(path)]:
        raise ExtractionError(
            f"{len(missing):,} of {len(paths):,} images are not where the catalog has them: "
            f"{listed(missing)}; put them back, or run featstore extract where they are now"
        )


def _explained(path: str, reasons: dict[str, str]) -> str:
    return f"{path} ({reasons[path]})" if path in reasons else path
