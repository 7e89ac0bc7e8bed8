"""Small networks of KerasHub with random weights, saved as presets."""

import numpy as np
import pytest

SIDE = 32

_TOWER = {"hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
_VISION = {"patch_size": 8, "num_layers": 1, "image_shape": (SIDE, SIDE, 3), **_TOWER}
_TEXT = {"vocabulary_size": 50, "embedding_dim": 16, "num_layers": 1, **_TOWER}


def keras_hub():
    """Return KerasHub, or skip the test."""
    return pytest.importorskip("keras_hub", reason='needs KerasHub: pip install "featstore[keras-hub]"')


def hub_network(name):
    """Build a network of KerasHub from a small configuration."""
    models = keras_hub().models
    match name:
        case "vit":
            options = {name: value for name, value in _VISION.items() if name != "intermediate_dim"}
            network = models.ViTBackbone(**options, mlp_dim=32)
        case "dinov2":
            network = models.DINOV2Backbone(**_VISION, position_embedding_shape=(SIDE, SIDE, 3))
        case "dinov3":
            network = models.DINOV3Backbone(**_VISION)
        case "deit":
            network = models.DeiTBackbone(**_VISION)
        case "siglip":
            towers = models.SigLIPVisionEncoder(**_VISION), models.SigLIPTextEncoder(**_TEXT)
            network = models.SigLIPBackbone(*towers)
        case "clip":
            towers = models.CLIPVisionEncoder(**_VISION), models.CLIPTextEncoder(**_TEXT)
            network = models.CLIPBackbone(*towers, projection_dim=12)
    rng = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(rng.normal(0, 0.2, tuple(variable.shape)))
    return network


def save_preset(name, folder, **converter):
    """Write a network as a preset, with an image converter; return the network."""
    hub = keras_hub()
    network = hub_network(name)
    network.save_to_preset(str(folder))
    options = {"image_size": (SIDE, SIDE), "scale": 1 / 127.5, "offset": -1.0, **converter}
    hub.layers.ImageConverter(**options).save_to_preset(str(folder))
    return network
