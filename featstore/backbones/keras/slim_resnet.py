"""TF-slim's ResNets, made of those of Keras, which differ from them in strides and padding."""

import re
from typing import Any

from featstore.backbones.files.checkpoints import checkpoint_prefix
from featstore.backbones.keras.quiet import quiet_import
from featstore.backbones.known import BackboneInfo
from featstore.backbones.request import NetworkRequest

with quiet_import():
    import keras

__all__ = ["SLIM_SALT", "as_in_slim", "is_of_slim"]

SLIM_SALT = b"tf-slim"
"""Digested with the weights of such a network: Keras' own would give other features with them."""

# batch_norm_epsilon of resnet_arg_scope in tensorflow/models, research/slim/nets/resnet_utils.py.
_EPSILON = 1e-5


def is_of_slim(info: BackboneInfo, request: NetworkRequest) -> bool:
    """Return whether the weights are of a ResNet of TF-slim."""
    is_resnet = info.module in ("resnet", "resnet_v2")
    return is_resnet and request.file is not None and checkpoint_prefix(request.file) is not None


def as_in_slim(network: Any, info: BackboneInfo) -> Any:
    """Return a ResNet of Keras rebuilt with the strides and padding of TF-slim's."""
    # Slim pools as TensorFlow pads ("SAME"), and its ResNet v1 halves the maps in the second convolution of
    # a block's last unit, where Keras does in the first convolutions of the next block.
    is_v1 = info.module == "resnet"
    halving = _last_units(network) if is_v1 else set()

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["epsilon"] = _EPSILON
        elif layer.name == "pool1_pool":
            config["padding"] = "same"
        elif is_v1 and isinstance(layer, keras.layers.Conv2D):
            config["use_bias"] = False
            if layer.name != "conv1_conv":
                config["strides"] = (1, 1)
            if layer.name.removesuffix("_2_conv") in halving:
                config |= {"strides": (2, 2), "padding": "valid"}
        return type(layer).from_config(config)

    def call(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name == "pool1_pad":
            return inputs
        if layer.name.removesuffix("_2_conv") in halving:
            inputs = keras.layers.ZeroPadding2D(1)(inputs)
        if layer.name.removesuffix("_add") in halving:
            shortcut, residual = inputs
            inputs = [keras.layers.MaxPooling2D(1, 2)(shortcut), residual]
        return layer(inputs, *args, **kwargs)

    return keras.models.clone_model(network, clone_function=clone, call_function=call)


def _last_units(network: Any) -> set[str]:
    """Return the names of the last unit of each block but the last."""
    found = [re.fullmatch(r"conv(\d)_block(\d+)_add", layer.name) for layer in network.layers]
    units = [(int(one[1]), int(one[2])) for one in found if one]
    last = {block: max(unit for of, unit in units if of == block) for block, _ in units}
    return {f"conv{block}_block{unit}" for block, unit in last.items() if block < max(last)}
