"""Composition of Keras models: several networks on one input, and averaging over mirror images."""

from collections.abc import Sequence
from typing import Any

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.runtimes import INPUT, OUTPUT

with quiet_import():
    import keras

__all__ = ["average_with_mirrored", "join_networks"]


def join_networks(networks: Sequence[Any]) -> Any:
    """Join networks from uint8 (n, height, width, 3) on one input, and concatenate their features."""
    if len(networks) == 1:
        return networks[0]
    pixels = keras.Input(networks[0].input.shape[1:], dtype="uint8", name=INPUT)
    for number, network in enumerate(networks):
        # Those of one architecture have one name, which a model may hold once.
        network.name = f"backbone_{number}"
    features = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Concatenate(dtype="float32")(features))


def average_with_mirrored(model: Any) -> Any:
    """Average a model's probabilities over an image and its mirror image."""
    # Both pass the model as one batch of twice the size, so that its weights exist once.
    shape, n_classes = model.input.shape[1:], model.output.shape[-1]
    pixels = keras.Input(shape, dtype="uint8", name=INPUT)
    both = keras.ops.stack([pixels, keras.ops.flip(pixels, axis=2)], axis=1)
    probabilities = model(keras.ops.reshape(both, (-1, *shape)))
    pairs = keras.ops.reshape(probabilities, (-1, 2, n_classes))
    mean = keras.ops.mean(pairs, axis=1)
    return keras.Model(pixels, keras.layers.Identity(dtype="float32", name=OUTPUT)(mean))
