"""A cut network from uint8 pixels to rows of features, as OpenVINO runs it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.engines.openvino import import_openvino
from featstore.errors import BackboneError, last_line

__all__ = ["settle_input", "wrap_graph"]

_MOST_FEATURES = 2**22

_PLACES = {"nchw": (1, (2, 3)), "nhwc": (3, (1, 2))}


def settle_input(
    model: Any, *, layout: str | None, size_px: tuple[int, int] | None
) -> tuple[str, bool, tuple[int, int]]:
    """Give a model's input its size; return its layout, whether its shape shows it, and height and width."""
    shape = model.inputs[0].partial_shape
    if "string" in str(model.inputs[0].element_type):
        raise BackboneError(
            "it takes encoded files; name the tensor that takes pixels with --input (Mul:0 in the Inception "
            "graph of retrain.py)"
        )
    if shape.rank.is_static and shape.rank.get_length() != 4:
        raise BackboneError(
            f"its input has the shape {shape}; expected (n, 3, height, width) or (n, height, width, 3)"
        )
    known = [None] * 4 if shape.rank.is_dynamic else [*shape]
    sides = [one.get_length() if one is not None and one.is_static else None for one in known]
    fits = [name for name, (channel, _) in _PLACES.items() if sides[channel] in (3, None)]
    sure = [name for name, (channel, _) in _PLACES.items() if sides[channel] == 3]
    shown = sure[0] if len(sure) == 1 else fits[0] if len(fits) == 1 else None
    if not fits or (layout is not None and layout not in fits):
        laid_out = f" laid out as {layout}" if layout else ""
        raise BackboneError(f"its input has the shape {shape}, which is no colour image{laid_out}")
    if layout is None and shown is None:
        raise BackboneError(f"its input of shape {shape} does not say where the channels are; set --layout")
    used = layout or str(shown)
    _, places = _PLACES[used]
    height, width = (sides[place] for place in places)
    fixed = None if height is None or width is None else (height, width)
    if fixed is None and size_px is None:
        raise BackboneError("it takes images of any size; choose one with --image-size")
    if fixed is not None and size_px is not None and size_px != fixed:
        found = f"{size_px[0]}x{size_px[1]}"
        raise BackboneError(f"it takes images of {fixed[0]}x{fixed[1]} pixels only; found {found}")
    settled: tuple[int, int] = fixed or size_px or (0, 0)
    wanted: list[Any] = [shape[0] if shape.rank.is_static else -1, 3, 3, 3]
    wanted[places[0]], wanted[places[1]] = settled
    try:
        model.reshape(wanted)
    except RuntimeError as error:
        raise BackboneError(
            f"it cannot take images of {settled[0]}x{settled[1]} pixels: {last_line(error)}"
        ) from error
    return used, used == shown, settled


def wrap_graph(
    model: Any, *, layout: str, scaling: Mapping[str, Any], poolings: Sequence[str], names: Sequence[str]
) -> tuple[Any, list[tuple[str, int]]]:
    """Add scaling and pooling; also return the pooling and the number of features of each output."""
    openvino = import_openvino()
    prepare = openvino.preprocess.PrePostProcessor(model)
    pixels = prepare.input()
    pixels.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    pixels.model().set_layout(openvino.Layout(layout.upper()))
    if scaling["reversed"]:
        formats = openvino.preprocess.ColorFormat
        pixels.tensor().set_color_format(formats.RGB)
        pixels.preprocess().convert_color(formats.BGR)
    pixels.preprocess().convert_element_type(openvino.Type.f32)
    if any(scaling["mean"]):
        pixels.preprocess().mean(scaling["mean"])
    if any(value != 1 for value in scaling["std"]):
        pixels.preprocess().scale(scaling["std"])
    prepared = prepare.build()
    rows, facts = [], []
    for result, pooling, name in zip(prepared.outputs, poolings, names, strict=True):
        pooled, used = _pooled(result.node.input_value(0), pooling, layout, name)
        width = pooled.partial_shape[1]
        if width.is_dynamic:
            raise BackboneError(f"the number of features at {name!r} is not fixed; give --image-size")
        n_features = width.get_length()
        if n_features > _MOST_FEATURES:
            raise BackboneError(
                f"{name!r} gives {n_features:,} features; pool them, or choose another output"
            )
        rows.append(pooled)
        facts.append((used, n_features))
    joined = rows[0] if len(rows) == 1 else openvino.opset13.concat(rows, 1).output(0)
    return openvino.Model([joined], prepared.get_parameters(), "features"), facts


def _whole(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _pooled(tensor: Any, pooling: str, layout: str, name: str) -> tuple[Any, str]:
    """Return a tensor as rows of float32, and the pooling that was needed for it."""
    openvino = import_openvino()
    ops = openvino.opset13
    shape = tensor.partial_shape
    rank = shape.rank.get_length() if shape.rank.is_static else 0
    tensor = ops.convert(tensor, "f32").output(0)
    if rank == 2:
        return tensor, "none"
    if pooling == "none" and rank in (3, 4):
        return ops.reshape(tensor, _whole(0, -1), True).output(0), pooling
    if rank == 4 and pooling in ("avg", "max"):
        reduce = ops.reduce_mean if pooling == "avg" else ops.reduce_max
        return reduce(tensor, _whole(*_PLACES[layout][1]), False).output(0), pooling
    if rank == 3 and pooling == "cls":
        first = ops.gather(tensor, np.int64(0), np.int64(1))
        return first.output(0), pooling
    if rank == 3 and pooling == "tokens":
        return ops.reduce_mean(tensor, _whole(1), False).output(0), pooling
    shown = str(shape).replace("?", "n")
    if rank == 3:
        raise BackboneError(
            f"{name!r} has the shape {shown}, tokens of an image; set --pooling cls (the first), tokens (the "
            "mean) or none (all)"
        )
    if rank == 4:
        raise BackboneError(f"{name!r} has the shape {shown}, a map; set --pooling avg, max or none")
    raise BackboneError(
        f"{name!r} has the shape {shown}; expected rows, tokens or a map: choose another --output"
    )
