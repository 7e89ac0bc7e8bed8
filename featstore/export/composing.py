"""Several networks on one picture, or one network on a picture and its mirror image, as one Keras model."""

from collections.abc import Sequence
from typing import Any

from featstore.backbones.keras.quiet import quiet_import
from featstore.export.runtimes import INPUT, OUTPUT

with quiet_import():
    import keras

__all__ = ["average_with_mirrored", "join_networks"]


def join_networks(networks: Sequence[Any]) -> Any:
    """Put several networks on one input, and their features one after the other.

    Parameters
    ----------
    networks : sequence of keras.Model
        Each from uint8 pixels of one shape (n, height, width, 3) to features (n, own_dim).

    Returns
    -------
    keras.Model
        From these pixels to features (n, feature_dim), in the networks' order; of one network, that itself.
    """
    if len(networks) == 1:
        return networks[0]
    pixels = keras.Input(networks[0].input.shape[1:], dtype="uint8", name=INPUT)
    for number, network in enumerate(networks):
        # Those of one architecture have one name, which a model may hold once.
        network.name = f"backbone_{number}"
    features = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Concatenate(dtype="float32")(features))


def average_with_mirrored(model: Any) -> Any:
    """Let a model look at a picture and at its mirror image, and average what it says.

    The two pass the model as one batch of twice as many pictures, so that its weights are there once.

    Parameters
    ----------
    model : keras.Model
        From uint8 pixels (n, height, width, 3) to probabilities (n, n_classes).

    Returns
    -------
    keras.Model
        Likewise.
    """
    shape, n_classes = model.input.shape[1:], model.output.shape[-1]
    pixels = keras.Input(shape, dtype="uint8", name=INPUT)
    both = keras.ops.stack([pixels, keras.ops.flip(pixels, axis=2)], axis=1)
    probabilities = model(keras.ops.reshape(both, (-1, *shape)))
    pairs = keras.ops.reshape(probabilities, (-1, 2, n_classes))
    mean = keras.ops.mean(pairs, axis=1)
    return keras.Model(pixels, keras.layers.Identity(dtype="float32", name=OUTPUT)(mean))
