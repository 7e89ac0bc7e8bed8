"""Preprocessing as Hugging Face, timm and KerasHub state it in a file beside a network."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from featstore.backbones.files.presets import find_preset, read_json
from featstore.backbones.graphs.formats import find_graph
from featstore.backbones.pixel_scaling import PixelScaling, settle_scaling
from featstore.errors import BackboneError

__all__ = ["StatedPreprocessing", "read_preprocessor"]

_HUGGING_FACE, _TIMM = "preprocessor_config.json", "config.json"

# Numbers of Pillow's filters, as Hugging Face writes them.
_FILTERS = {2: "bilinear", 3: "bicubic"}
_OTHER_FILTERS = {0: "nearest", 1: "lanczos", 4: "box", 5: "hamming"}

# From this size on ConvNeXT's processor cuts nothing off.
_CONVNEXT_WHOLE_PX = 384


@dataclass(frozen=True, kw_only=True)
class StatedPreprocessing:
    """What a network's publisher says about its pixels.

    Parameters
    ----------
    file : str
        Where it is said.
    size_px : tuple of int, optional
    resize : str, optional
    interpolation : str, optional
    crop_fraction : float, optional
    scaling : PixelScaling, optional
    """

    file: str
    size_px: tuple[int, int] | None = None
    resize: str | None = None
    interpolation: str | None = None
    crop_fraction: float | None = None
    scaling: PixelScaling | None = None

    def __str__(self) -> str:
        size = [] if self.size_px is None else [f"{self.size_px[0]} x {self.size_px[1]} px"]
        crop = [] if self.crop_fraction is None else [f"crop fraction {self.crop_fraction:.4g}"]
        scaling = [] if self.scaling is None else [f"scaling {self.scaling}"]
        words = [*size, self.resize, *crop, self.interpolation or "bilinear", *scaling]
        return ", ".join(word for word in words if word)


def read_preprocessor(path: str | os.PathLike[str]) -> StatedPreprocessing | None:
    """Return the preprocessing that is stated beside a network of another library, or None."""
    preset = find_preset(os.fspath(path))
    if preset is not None:
        converter = preset.converter()
        return converter and _followed(*converter, _of_keras_hub)
    graph = find_graph(os.fspath(path))
    if graph is None:
        return None
    folder = graph.path if graph.kind == "saved_model" else os.path.dirname(graph.path)
    folders = [folder, os.path.dirname(folder)] if os.path.basename(folder) == "onnx" else [folder]
    for place in folders:
        for name, read in ((_HUGGING_FACE, _of_hugging_face), (_TIMM, _of_timm)):
            file = os.path.join(place, name)
            if os.path.exists(file) and (found := _followed(file, read_json(file), read)) is not None:
                return found
    return None


def _followed(
    file: str, stated: Mapping[str, Any], read: Callable[[Mapping[str, Any]], dict[str, Any] | None]
) -> StatedPreprocessing | None:
    try:
        found = read(stated)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BackboneError(
            f"{file} states a preprocessing that cannot be followed: {error}; move it away, and give "
            "--image-size, --resize, --interpolation, --crop-fraction, --mean and --std"
        ) from error
    return None if found is None else StatedPreprocessing(file=file, **found)


def _of_keras_hub(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Read the arguments of an image converter of KerasHub: pixels in [0, 255], times scale, plus offset."""
    name = stated.get("interpolation", "bilinear")
    if name not in _FILTERS.values():
        raise ValueError(f"pixels are interpolated by {name!r}")
    pads, crops = stated.get("pad_to_aspect_ratio"), stated.get("crop_to_aspect_ratio", True)
    size = stated.get("image_size")
    scale, offset = stated.get("scale"), stated.get("offset")
    scales, offsets = _three(1.0 if scale is None else scale), _three(0.0 if offset is None else offset)
    return {
        "size_px": None if size is None else (int(size[0]), int(size[1])),
        "resize": "pad" if pads else "crop" if crops else "stretch",
        "interpolation": name,
        "scaling": settle_scaling(
            None,
            scale=1.0,
            mean=[-one / by for one, by in zip(offsets, scales, strict=True)],
            std=[1 / by for by in scales],
        ),
    }


def _three(value: Any) -> list[float]:
    values = [float(one) for one in value] if isinstance(value, list) else [float(value)]
    if len(values) not in (1, 3):
        raise ValueError(f"it scales {len(values)} channels")
    return values * (3 // len(values))


def _of_hugging_face(stated: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the arguments of an image processor of transformers."""
    found: dict[str, Any] = {}
    if stated.get("do_resize", True):
        found |= _hugging_face_size(stated)
        number = stated.get("resample", 2)
        if number not in _FILTERS:
            raise ValueError(f"pixels are interpolated by {_OTHER_FILTERS.get(number, number)!r}")
        found["interpolation"] = _FILTERS[number]
    rescales, normalizes = stated.get("do_rescale", True), stated.get("do_normalize", True)
    factor = float(stated.get("rescale_factor", 1 / 255)) if rescales else 1.0
    mean, std = (stated.get("image_mean"), stated.get("image_std")) if normalizes else (None, None)
    found["scaling"] = settle_scaling(None, scale=factor, mean=mean, std=std)
    return found


def _hugging_face_size(stated: Mapping[str, Any]) -> dict[str, Any]:
    size = stated.get("size")
    shown = {"height": size, "width": size} if isinstance(size, int) else dict(size or {})
    # A number meant the shorter side to processors that cut.
    crops = stated.get("do_center_crop", "crop_size" in stated)
    if isinstance(size, int) and (crops or "crop_pct" in stated):
        shown = {"shortest_edge": size}
    if "shortest_edge" in shown and "crop_pct" in stated:
        side, fraction = int(shown["shortest_edge"]), stated["crop_pct"]
        if side >= _CONVNEXT_WHOLE_PX or fraction is None:
            return {"size_px": (side, side), "resize": "stretch"}
        return {"size_px": (side, side), "resize": "crop", **_fraction(side, int(side / fraction))}
    if crops:
        crop = stated["crop_size"]
        sides = (crop, crop) if isinstance(crop, int) else (int(crop["height"]), int(crop["width"]))
        if "shortest_edge" in shown:
            return {"size_px": sides, "resize": "crop", **_fraction(min(sides), int(shown["shortest_edge"]))}
        if shown["height"] * sides[1] != shown["width"] * sides[0]:
            raise ValueError(f"it cuts {sides} out of {shown}")
        return {"size_px": sides, "resize": "stretch", **_fraction(sides[0], int(shown["height"]))}
    if "height" in shown and "width" in shown:
        return {"size_px": (int(shown["height"]), int(shown["width"])), "resize": "stretch"}
    raise ValueError(f"it leaves images in shapes of their own ({json.dumps(stated.get('size'))})")


def _of_timm(stated: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read timm's ``pretrained_cfg``; None of any other ``config.json``."""
    stated = stated.get("pretrained_cfg", stated)
    if "input_size" not in stated or "mean" not in stated or "std" not in stated:
        return None
    _, height, width = stated["input_size"]
    name = stated.get("interpolation", "bicubic")
    if name not in _FILTERS.values():
        raise ValueError(f"pixels are interpolated by {name!r}")
    mode = stated.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ValueError(f"it has the crop mode {mode!r}")
    resized = math.floor(min(height, width) / float(stated.get("crop_pct") or 0.875))
    return {
        "size_px": (int(height), int(width)),
        "resize": {"center": "crop", "squash": "stretch"}[mode],
        **_fraction(min(height, width), resized),
        "interpolation": name,
        "scaling": settle_scaling(None, mean=stated["mean"], std=stated["std"]),
    }


def _fraction(shown: int, of: int) -> dict[str, float]:
    """Return the part of an image's sides that a centre crop leaves."""
    if shown > of:
        raise ValueError(f"it cuts {shown} pixels out of {of}")
    return {"crop_fraction": shown / of} if shown < of else {}
