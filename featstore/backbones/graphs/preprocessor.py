"""Preprocessing as Hugging Face and timm state it in a file beside a network."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featstore.backbones.graphs.formats import find_graph
from featstore.backbones.pixel_scaling import PixelScaling, settle_scaling
from featstore.errors import BackboneError
from featstore.io.raw import cannot_read

__all__ = ["StatedPreprocessing", "read_preprocessor"]

_HUGGING_FACE, _TIMM = "preprocessor_config.json", "config.json"
_LARGEST = 2**20

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
    graph = find_graph(os.fspath(path))
    if graph is None:
        return None
    folder = graph.path if graph.kind == "saved_model" else os.path.dirname(graph.path)
    folders = [folder, os.path.dirname(folder)] if os.path.basename(folder) == "onnx" else [folder]
    for place in folders:
        for name, read in ((_HUGGING_FACE, _of_hugging_face), (_TIMM, _of_timm)):
            stated = _read(os.path.join(place, name))
            if stated is None:
                continue
            try:
                found = read(stated)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise BackboneError(
                    f"{os.path.join(place, name)} states a preprocessing that cannot be followed: {error}; "
                    "move it away, and give --image-size, --resize, --interpolation, --crop-fraction, --mean "
                    "and --std"
                ) from error
            if found is not None:
                return StatedPreprocessing(file=os.path.join(place, name), **found)
    return None


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST + 1)
        found = json.loads(text) if len(text) <= _LARGEST else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(cannot_read(path, error) or f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BackboneError(f"{path} is not the description of a preprocessing")
    return found


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
