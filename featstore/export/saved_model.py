"""Export as a TensorFlow SavedModel with two signatures: encoded files, and pixels."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.runtimes import ENCODED, ENCODED_SIGNATURE, IMAGES_SIGNATURE, INPUT, LABEL, OUTPUT

with quiet_import():
    import keras
    import tensorflow as tf

__all__ = ["write_saved_model"]


def write_saved_model(
    model: Any,
    folder: str,
    *,
    classes: Sequence[str],
    picture: Mapping[str, Any],
    rejects_below: float,
    gives_several: bool = False,
    output: str = OUTPUT,
) -> None:
    """Write a SavedModel for TensorFlow Serving, with a signature for encoded files and one for pixels."""
    # Decoding in the graph is nearly featstore's: tf.io decodes, and the same antialiased resize
    # follows, in one pass where Pillow's two round to 8 bits each: measured on photos, no value differs by
    # more than 1 of 255. But the graph does not turn images as their EXIF says, and a JPEG several times as
    # large as size_px is decoded in full where featstore lets libjpeg shrink it first.
    height, width = model.input.shape[1:3]
    labels = tf.constant([label.encode("utf-8", "surrogateescape") for label in classes])

    def answer(pixels: Any) -> dict[str, Any]:
        probabilities = model(pixels, training=False)
        if gives_several or not classes:
            return {output: probabilities}
        best = tf.gather(labels, tf.argmax(probabilities, axis=-1))
        is_sure = tf.reduce_max(probabilities, axis=-1) >= rejects_below
        return {OUTPUT: probabilities, LABEL: tf.where(is_sure, best, "")}

    @tf.function(input_signature=[tf.TensorSpec((None, height, width, 3), tf.uint8, name=INPUT)])  # type: ignore[untyped-decorator]
    def of_images(images: Any) -> dict[str, Any]:
        return answer(images)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name=ENCODED)])  # type: ignore[untyped-decorator]
    def of_files(image_bytes: Any) -> dict[str, Any]:
        pixels = tf.map_fn(
            lambda data: _resized(_decoded(data), **picture),
            image_bytes,
            fn_output_signature=tf.TensorSpec((height, width, 3), tf.uint8),
        )
        return answer(pixels)

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(ENCODED_SIGNATURE, of_files)
    archive.add_endpoint(IMAGES_SIGNATURE, of_images)
    os.makedirs(folder, exist_ok=True)
    archive.write_out(folder, verbose=False)


def _decoded(data: Any) -> Any:
    """Decode one file to uint8 (height, width, 3)."""
    pixels = tf.case(
        [
            # decode_image would take libjpeg's fast and less exact transform, and drop a PNG's transparency.
            (tf.io.is_jpeg(data), lambda: tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")),
            (
                tf.strings.substr(data, 0, 4) == b"\x89PNG",
                lambda: _on_white(tf.io.decode_png(data, channels=4)),
            ),
        ],
        default=lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(pixels, (None, None, 3))


def _on_white(pixels: Any) -> Any:
    colours, alpha = tf.cast(pixels[..., :3], tf.float32), tf.cast(pixels[..., 3:], tf.float32) / 255
    return tf.saturate_cast(tf.round(colours * alpha + 255 * (1 - alpha)), tf.uint8)


def _resized(
    pixels: Any,
    *,
    size_px: tuple[int, int],
    resize: str,
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
) -> Any:
    """Resize as :func:`featstore.images.decode.decode_image` does, in one pass."""
    target = tf.constant(size_px, tf.float32)
    shape = tf.cast(tf.shape(pixels)[:2], tf.float32)
    inner, scale = target, target / shape / crop_fraction
    if resize == "crop":
        scale = tf.reduce_max(scale) * tf.ones(2)
    origin = (target - shape * scale) / 2
    if resize == "pad":
        inner = tf.maximum(tf.round(shape * tf.reduce_min(scale)), 1.0)
        scale, origin = inner / shape, tf.zeros(2)
    size = tf.cast(inner, tf.int32)
    floats = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(pixels, tf.float32)[tf.newaxis],
        size=size,
        scale=scale,
        translation=origin,
        kernel_type={"bilinear": "triangle", "bicubic": "keyscubic"}[interpolation],
        antialias=True,
    )[0]
    resized = tf.saturate_cast(tf.round(floats), tf.uint8)
    if resize == "pad":
        margin = (tf.constant(size_px) - size) // 2
        resized = tf.image.pad_to_bounding_box(resized, margin[0], margin[1], *size_px)
    return tf.ensure_shape(resized, (*size_px, 3))
