"""The backbones of a specification, one for each of its parts."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from featstore.backbones.backbone import Backbone
from featstore.backbones.loading import backbone_from_spec
from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.errors import BackboneError, FingerprintMismatchError

__all__ = ["WeightsFiles", "backbones_among", "backbones_from_spec"]

WeightsFiles: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None]
"""Where the weights of one or several backbones are."""


def backbones_from_spec(
    spec: BackboneSpec | JoinedSpec,
    *,
    weights: WeightsFiles | None = None,
    remembered: str | Sequence[str] = "",
    engine: str = "auto",
    trust_model: bool = False,
    imports: Sequence[str] = (),
) -> tuple[Backbone, ...]:
    """Load the backbones that give the features of a specification."""
    parts = spec.parts
    places = [remembered] if isinstance(remembered, str) else [*remembered]
    if len(places) != len(parts):
        places = [""] * len(parts)
    given: list[str | os.PathLike[str] | None]
    given = [weights] if weights is None or isinstance(weights, str | os.PathLike) else [*weights]
    if len(given) == 1:
        given *= len(parts)
    if len(given) != len(parts):
        named = ", ".join(part.name for part in parts)
        raise BackboneError(
            f"{len(given)} weights files are given, for {len(parts)} "
            f"{'backbone' if len(parts) == 1 else 'backbones'}: {named}; "
            "give one, or one for each in this order"
        )
    backbones = []
    for part, file, place in zip(parts, given, places, strict=True):
        try:
            backbone = backbone_from_spec(
                part, weights=file or place, engine=engine, trust_model=trust_model, imports=imports
            )
        except (BackboneError, FingerprintMismatchError) as error:
            if len(parts) == 1:
                raise
            raise type(error)(f"{error}. It is about {part.name}, one of {len(parts)} backbones") from error
        backbones.append(backbone)
    return tuple(backbones)


def backbones_among(
    spec: BackboneSpec | JoinedSpec, given: Backbone | Sequence[Backbone]
) -> tuple[Backbone, ...]:
    """Choose the backbones of a specification from loaded ones."""
    # View recipes do not matter: a network that was loaded without views serves too.
    backbones = given if isinstance(given, Sequence) else [given]
    networks = {replace(backbone.spec, views=None): backbone for backbone in backbones}
    wanted = {part: replace(part, views=None) for part in spec.parts}
    if missing := [part.name for part, network in wanted.items() if network not in networks]:
        found = ", ".join(backbone.spec.name for backbone in backbones) or "none"
        raise FingerprintMismatchError(
            f"features of {', '.join(missing)} are needed, and the backbone is {found}"
        )
    return tuple(networks[network] for network in wanted.values())
