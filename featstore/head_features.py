"""Features of images on their way to a head: computed by its networks, or found in a store."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones import Backbone
from featstore.backbones.joint import joint_backbones
from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.flow.loading import GivenItem, Loaded
from featstore.flow.stored import lacking_views, spaces_of, stored_rows
from featstore.flow.stream import Group, Pass

if TYPE_CHECKING:
    import os

    from featstore.store import FeatureStore, Space

__all__ = ["HeadFeatures"]


class HeadFeatures:
    """The passes of a head's networks, and the features that come of them."""

    def __init__(
        self,
        spec: BackboneSpec | JoinedSpec,
        backbones: Sequence[Backbone],
        *,
        store: "FeatureStore | str | os.PathLike[str] | None",
        n_views: int,
    ) -> None:
        self._backbones = backbones
        self._n_views = n_views
        self._spaces = [None] * len(spec.parts) if store is None else spaces_of(store, spec.parts)
        # Of each backbone, the pass that computes its features, and where they are in its rows.
        self._places: dict[int, tuple[int, slice]] = {}
        self.passes: list[Pass] = []
        for number, (joint, members) in enumerate(joint_backbones(backbones)):
            for at, columns in zip(members, joint.columns, strict=True):
                self._places[at] = number, columns
            spaces = [space for at in members if (space := self._spaces[at]) is not None]
            is_known = len(spaces) == len(members)
            wanted = partial(_lacking_views, spaces, n_views) if is_known else None
            self.passes.append(Pass(network=joint, spec=spec.parts[members[0]], wanted=wanted))

    def of(self, group: Group[GivenItem]) -> NDArray[Any]:
        """Return the features of images that could be decoded, of shape (n, n_views, feature_dim)."""
        decoded = [image for image in group.images if image.reason is None]
        parts = [self._part(group, decoded, at) for at in range(len(self._backbones))]
        return np.concatenate(parts, axis=2)

    def _part(self, group: Group[GivenItem], decoded: list[Loaded[GivenItem]], at: int) -> NDArray[Any]:
        """Return one backbone's features of images."""
        number, columns = self._places[at]
        backbone = self._backbones[at]
        n_columns = backbone.feature_dim
        features = np.empty((len(decoded), self._n_views, n_columns), backbone.spec.dtype)
        is_computed = np.array([number in image.views for image in decoded], np.bool_)
        if number in group.rows:
            rows = group.rows[number][:, columns]
            features[is_computed] = rows.reshape(-1, self._n_views, n_columns)
        space = self._spaces[at]
        if space is not None and not is_computed.all():
            hashes = [image.content_hash for image in decoded if number not in image.views]
            features[~is_computed] = stored_rows(space, hashes, self._n_views)
        return features


def _lacking_views(spaces: "Sequence[Space]", n_views: int, content_hash: bytes) -> Sequence[int]:
    """Return no views where all spaces have all of them, else all."""
    return max((lacking_views(space, n_views, content_hash) for space in spaces), key=len)
