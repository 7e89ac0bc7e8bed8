"""Backbone specifications: all that decides a backbone's features, as data."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featstore.errors import BackboneError, ViewError
from featstore.hashing import fingerprint
from featstore.images.views import ViewRecipe

__all__ = ["BackboneSpec", "JoinedSpec", "digest_values", "spec_from_dict"]

_CHOICES = {
    "pooling": ("avg", "max", "none", "cls", "tokens"),
    "resize": ("stretch", "crop", "pad"),
    "interpolation": ("bicubic", None),
    "layout": ("nchw", "nhwc", None),
    "preprocessing": ("caffe", "custom", "none", "tf", "torch", "unit"),
    "precision": ("float32", "bfloat16"),
    "dtype": ("float32", "float16"),
}


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Everything that determines the features that a backbone gives for an image.

    Two specs with one fingerprint give the same features. Which library ran the network is provenance and
    not part of it.

    Parameters
    ----------
    architecture : str
        ``"mobilenet_v2"``, ``"scattering"``, … or, for a model of the user's own, its file's stem.
    weights_digest : str
        SHA-256 over the values of the weights up to ``layer``, 64 hexadecimal digits.
    layer : str
        Where the network is cut: the name of the layer whose output becomes the features.
    pooling : {"avg", "max", "cls", "tokens", "none"}
        How the height and width of that output are pooled; of an output of tokens (n, n_tokens, d),
        ``"cls"`` is the first and ``"tokens"`` the mean of all; ``"none"`` flattens it. ``"none"`` too where
        it has neither.
    size_px : tuple of int
        Height and width of the network's input, in pixels.
    resize : {"stretch", "crop", "pad"}
        How an image of another shape is brought to ``size_px``.
    preprocessing : {"tf", "torch", "caffe", "unit", "none", "custom"}
        How pixels in [0, 255] are scaled, in Keras' words: ``"tf"`` to [-1, 1]; ``"torch"`` to [0, 1], then
        standardised by ImageNet's mean and deviation per channel; ``"caffe"`` to BGR less ImageNet's mean;
        ``"unit"`` to [0, 1]; ``"none"`` leaves them to the network; ``"custom"`` as ``mean`` and ``std`` say.
    alpha : float, optional
        The width multiplier of the MobileNets, where it is not 1.
    precision : {"float32", "bfloat16"}
        The arithmetic of the forward pass.
    dtype : {"float32", "float16"}
        How the features are stored.
    views : ViewRecipe, optional
        How views from number 1 on are drawn; None for view 0, the image itself, only.
    mean, std : tuple of float, optional
        Of ``"custom"`` scaling: red, green and blue in [0, 255] become ``(pixel - mean) / std``.
    interpolation : {"bicubic"}, optional
        How pixels are interpolated; None for bilinearly.
    crop_fraction : float, optional
        The centred part, by its sides, of what ``"stretch"`` or ``"crop"`` would show: in (0, 1); None for
        all of it.
    input_name : str, optional
        Of a network in a file of another library: the tensor that takes the pixels, where it is not the
        network's own input.
    layout : {"nchw", "nhwc"}, optional
        Of such a network: the order of that tensor's axes, where its shape does not show it.

    Raises
    ------
    BackboneError
        A field has a value that it cannot have.

    Examples
    --------
    >>> from featstore import load_backbone
    >>> spec = load_backbone("scattering").spec
    >>> spec.name, spec.size_px, spec.pooling
    ('scattering-e7b46de4f035', (96, 96), 'none')
    >>> BackboneSpec.from_dict(spec.to_dict()) == spec
    True
    """

    architecture: str
    weights_digest: str
    layer: str
    pooling: str = "avg"
    size_px: tuple[int, int]
    resize: str = "stretch"
    preprocessing: str
    alpha: float | None = None
    precision: str = "float32"
    dtype: str = "float32"
    views: ViewRecipe | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_fraction: float | None = None
    input_name: str | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_px", tuple(int(side) for side in self.size_px))
        if len(self.size_px) != 2 or min(self.size_px) < 1:
            raise BackboneError(
                f"size_px is (height, width) in pixels, each at least 1; found {self.size_px}"
            )
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                found = getattr(self, field)
                words = ", ".join(str(word) for word in allowed)
                raise BackboneError(f"{field} must be one of {words}; found {found!r}")
        self._check_scaling()
        if self.crop_fraction is not None and (
            not 0 < self.crop_fraction < 1 or self.resize not in ("stretch", "crop")
        ):
            raise BackboneError(
                "crop_fraction is in (0, 1), of the resize rules stretch and crop; "
                f"found {self.crop_fraction} with {self.resize}"
            )
        if not isinstance(self.views, ViewRecipe | None):
            raise BackboneError(f"views is a ViewRecipe, or None; found {self.views!r}")

    def _check_scaling(self) -> None:
        is_custom = self.preprocessing == "custom"
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None:
                values = tuple(float(value) for value in values)
                object.__setattr__(self, name, values)
            if (values is not None) != is_custom or (values is not None and len(values) != 3):
                raise BackboneError(
                    f"{name} has three values where preprocessing is 'custom', and none elsewhere; "
                    f"found {values} with {self.preprocessing!r}"
                )
        if not all(map(math.isfinite, (*(self.mean or ()), *(self.std or ())))) or 0 in (self.std or ()):
            raise BackboneError(f"mean and std are finite, and std is not 0; found {self.mean}, {self.std}")

    @property
    def picture(self) -> dict[str, Any]:
        """How an image becomes the network's pixels, as keyword arguments of ``decode_image``."""
        more = {name: getattr(self, name) for name in ("interpolation", "crop_fraction")}
        present = {name: value for name, value in more.items() if value is not None}
        return {"size_px": self.size_px, "resize": self.resize, **present}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of :meth:`to_dict`, 64 hexadecimal digits."""
        return fingerprint(self.to_dict())

    @property
    def name(self) -> str:
        """The name of its space: architecture and the fingerprint's first twelve digits."""
        return f"{self.architecture}-{self.fingerprint[:12]}"

    @property
    def parts(self) -> "tuple[BackboneSpec, ...]":
        """The specification itself, as the only one; see :class:`JoinedSpec`."""
        return (self,)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; those that are None are left out."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        present["size_px"] = list(self.size_px)
        for name in ("mean", "std"):
            present[name] = None if present[name] is None else [*present[name]]
        present["views"] = None if self.views is None else self.views.to_dict()
        return {name: value for name, value in present.items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a spec from :meth:`to_dict`.

        Raises
        ------
        BackboneError
            A field is missing, unknown or has a value that it cannot have.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise BackboneError(
                "the backbone's specification has fields that this version does not know: "
                f"{', '.join(unknown)}; it was written by a newer version of featstore"
            )
        views = data.get("views")
        try:
            return cls(**{**data, "views": None if views is None else ViewRecipe.from_dict(views)})
        except TypeError as error:
            raise BackboneError(f"the backbone's specification is incomplete: {error}") from error
        except ViewError as error:
            raise BackboneError(f"the backbone's specification has unfit views: {error}") from error


@dataclass(frozen=True)
class JoinedSpec:
    """Several backbones whose features of an image are put one after the other.

    Parameters
    ----------
    parts : tuple of BackboneSpec
        At least two, all different; the features come in this order.

    Raises
    ------
    BackboneError
        There are fewer than two, or two are the same.

    Examples
    --------
    >>> import dataclasses
    >>> spec = BackboneSpec(
    ...     architecture="fern", weights_digest="0" * 64, layer="top", size_px=(32, 32), preprocessing="unit"
    ... )
    >>> larger = dataclasses.replace(spec, size_px=(64, 64))
    >>> JoinedSpec((spec, larger)).name
    'fern-08553e88c490+fern-a9f97c2312da'
    """

    parts: tuple[BackboneSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.parts) < 2 or len({part.fingerprint for part in self.parts}) < len(self.parts):
            named = ", ".join(part.name for part in self.parts)
            raise BackboneError(f"two or more different backbones can be joined; found {named or 'none'}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of :meth:`to_dict`, 64 hexadecimal digits."""
        return fingerprint(self.to_dict())

    @property
    def name(self) -> str:
        """The names of the spaces, with ``+`` between them."""
        return "+".join(part.name for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"parts": [...]}``, each as :meth:`BackboneSpec.to_dict` has it."""
        return {"parts": [part.to_dict() for part in self.parts]}


def spec_from_dict(data: Mapping[str, Any]) -> BackboneSpec | JoinedSpec:
    """Rebuild a specification, of one backbone or several joined, from its ``to_dict``."""
    if "parts" not in data:
        return BackboneSpec.from_dict(data)
    if set(data) != {"parts"} or not isinstance(data["parts"], list):
        raise BackboneError("the specification of joined backbones has parts and nothing else")
    return JoinedSpec(tuple(BackboneSpec.from_dict(part) for part in data["parts"]))


def digest_values(values: Iterable[NDArray[Any]], *, salt: bytes = b"") -> str:
    """Return the SHA-256 over arrays' dtypes, shapes and little-endian bytes in C order."""
    digest = hashlib.sha256(salt)
    for value in values:
        value = np.asarray(value, dtype=value.dtype.newbyteorder("<"), order="C")
        digest.update(f"{value.dtype.name}{list(value.shape)}".encode("ascii"))
        digest.update(value.tobytes())
    return digest.hexdigest()
