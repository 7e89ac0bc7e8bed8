"""ResNets of TF-slim: their checkpoints give what slim's own forward pass, written out here, gives."""

import numpy as np
import pytest
import tensorflow as tf

from featstore import load_backbone
from featstore.backbones.keras.models import forward_once
from featstore.errors import BackboneError

from .test_slim import save

SIDE = 64
UNITS = (3, 4, 6, 3)
EPSILON = 1e-5
MEAN = np.float32([123.68, 116.779, 103.939])


class Slim:
    """The networks of research/slim/nets/resnet_v1.py and resnet_v2.py, of variables that are drawn when asked for."""

    def __init__(self, version):
        self.version, self.scope = version, f"resnet_v{version}_50"
        self.variables = {}
        self._rng = np.random.default_rng(version)

    def variable(self, name, shape, low, high):
        drawn = self._rng.uniform(low, high, shape).astype(np.float32)
        return self.variables.setdefault(f"{self.scope}/{name}", drawn)

    def norm(self, x, scope):
        depth = x.shape[-1:]
        gamma, beta = (
            self.variable(f"{scope}/gamma", depth, 0.8, 1.2),
            self.variable(f"{scope}/beta", depth, -0.1, 0.1),
        )
        mean = self.variable(f"{scope}/moving_mean", depth, -0.1, 0.1)
        variance = self.variable(f"{scope}/moving_variance", depth, 0.5, 1.5)
        return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta

    def conv(self, x, scope, depth, kernel=1, stride=1, *, bias=False, norm=False):
        """conv2d_same of resnet_utils.py."""
        fan_in = kernel * kernel * x.shape[-1]
        limit = (3 / fan_in) ** 0.5
        weights = self.variable(f"{scope}/weights", (kernel, kernel, x.shape[-1], depth), -limit, limit)
        padding = "SAME"
        if stride > 1 and kernel > 1:
            before, after = (kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2
            x, padding = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]]), "VALID"
        x = tf.nn.conv2d(x, weights, stride, padding)
        x = x + self.variable(f"{scope}/biases", (depth,), -0.1, 0.1) if bias else x
        return self.norm(x, f"{scope}/BatchNorm") if norm else x

    def unit(self, x, scope, depth, stride):
        is_v2 = self.version == 2
        before = tf.nn.relu(self.norm(x, f"{scope}/preact")) if is_v2 else x
        if x.shape[-1] == 4 * depth:
            shortcut = x[:, ::stride, ::stride]
        else:
            shortcut = self.conv(
                before, f"{scope}/shortcut", 4 * depth, 1, stride, bias=is_v2, norm=not is_v2
            )
        y = tf.nn.relu(self.conv(before, f"{scope}/conv1", depth, norm=True))
        y = tf.nn.relu(self.conv(y, f"{scope}/conv2", depth, 3, stride, norm=True))
        y = self.conv(y, f"{scope}/conv3", 4 * depth, bias=is_v2, norm=not is_v2)
        return shortcut + y if is_v2 else tf.nn.relu(shortcut + y)

    def __call__(self, x):
        is_v2 = self.version == 2
        x = self.conv(x, "conv1", 64, 7, 2, bias=is_v2, norm=not is_v2)
        x = tf.nn.max_pool2d(x if is_v2 else tf.nn.relu(x), 3, 2, "SAME")
        for block, units in enumerate(UNITS, start=1):
            for unit in range(1, units + 1):
                stride = 2 if unit == units and block < len(UNITS) else 1
                scope = f"block{block}/unit_{unit}/bottleneck_v{self.version}"
                x = self.unit(x, scope, 32 * 2**block, stride)
        x = tf.nn.relu(self.norm(x, "postnorm")) if is_v2 else x
        return np.asarray(tf.reduce_mean(x, [1, 2]))


@pytest.mark.slow
@pytest.mark.parametrize(("version", "name"), [(1, "resnet50"), (2, "resnet50_v2")])
def test_a_checkpoint_gives_the_features_of_slims_own_network(version, name, tmp_path, cache):
    pixels = np.random.default_rng(5).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    network = Slim(version)
    wanted = network(pixels - MEAN if version == 1 else pixels / np.float32(127.5) - 1)
    path = save(tmp_path / "resnet.ckpt", network.variables)
    backbone = load_backbone(name, weights=path, image_size=SIDE)
    found = forward_once(backbone.build(), pixels)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
    with pytest.raises(BackboneError, match="laid out otherwise than Keras'"):
        backbone.tunable()
