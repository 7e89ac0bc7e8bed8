"""The scaling of pixels that a network expects, in one form whatever the words it was stated in."""

from collections.abc import Sequence
from dataclasses import dataclass

from featstore.errors import BackboneError

__all__ = ["CAFFE_MEAN_BGR", "IMAGENET_MEAN", "IMAGENET_STD", "PixelScaling", "settle_scaling"]

# ImageNet's channels: R, G, B in [0, 1] and B, G, R in [0, 255]. The constants of
# keras.applications.imagenet_utils.preprocess_input.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)

# Decimals kept of mean and deviation in [0, 255].
_DECIMALS = 6

# Mean and deviation that the words of Keras stand for.
_WORDS = {
    "none": ((0.0,) * 3, (1.0,) * 3),
    "unit": ((0.0,) * 3, (255.0,) * 3),
    "tf": ((127.5,) * 3, (127.5,) * 3),
    "torch": (tuple(255 * mean for mean in IMAGENET_MEAN), tuple(255 * std for std in IMAGENET_STD)),
}


@dataclass(frozen=True, kw_only=True)
class PixelScaling:
    """How pixels are scaled, as in :class:`~featstore.backbones.BackboneSpec`."""

    preprocessing: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def standardization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation in [0, 255] of the channels in the network's order."""
        if self.preprocessing == "caffe":
            return CAFFE_MEAN_BGR, (1.0,) * 3
        if self.mean is not None and self.std is not None:
            return self.mean, self.std
        return _WORDS[self.preprocessing]

    def __str__(self) -> str:
        if self.mean is None or self.std is None:
            return self.preprocessing
        mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} and std {std} of 0 to 255"


def settle_scaling(
    preprocessing: str | None,
    *,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    scale: float | None = None,
) -> PixelScaling | None:
    """Return the scaling ``(pixel * scale - mean) / std``, or that of a word; None if nothing is stated."""
    # Scalings that are the same have one form, so that their features have one fingerprint.
    given = {"mean": mean, "std": std, "scale": scale}
    stated = [name for name, value in given.items() if value is not None]
    if preprocessing is not None and stated:
        raise BackboneError(
            f"--preprocess names a whole scaling of the pixels, and --{stated[0]} a part of one; give either"
        )
    if not stated:
        return None if preprocessing is None else PixelScaling(preprocessing=preprocessing)
    means, stds = _channels("mean", mean, 0.0), _channels("std", std, 1.0)
    if scale is None and max(map(abs, means)) > 1:
        raise BackboneError(
            f"a mean of {max(means, key=abs):g} is not one of pixels in [0, 1], as mean and std are taken to "
            "be; where they are of pixels in [0, 255], add --scale 1"
        )
    factor = 1 / 255 if scale is None else float(scale)
    if not factor > 0 or not all(value > 0 for value in stds):
        raise BackboneError(f"scale and std are greater than 0; found {factor:g} and {stds}")
    wide_mean = tuple(round(value / factor, _DECIMALS) for value in means)
    wide_std = tuple(round(value / factor, _DECIMALS) for value in stds)
    for word, pair in _WORDS.items():
        known = tuple(tuple(round(value, _DECIMALS) for value in values) for values in pair)
        if (wide_mean, wide_std) == known:
            return PixelScaling(preprocessing=word)
    return PixelScaling(preprocessing="custom", mean=wide_mean, std=wide_std)


def _channels(name: str, given: Sequence[float] | float | None, default: float) -> tuple[float, ...]:
    given = default if given is None else given
    values = (given,) if isinstance(given, int | float) else tuple(given)
    if len(values) not in (1, 3):
        raise BackboneError(f"{name} has one value, or three: red, green, blue; found {len(values)}")
    return tuple(float(value) for value in values) * (3 // len(values))
