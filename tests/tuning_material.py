"""A tiny network to be tuned, small photos of three textures, and what the files hold."""

import numpy as np
from PIL import Image

SIZE_PX = 32
N_IMAGES = 90
CLASSES = ("blobs", "rings", "stripes")


def draw(folder, n=N_IMAGES):
    """Write noisy pictures of three kinds of texture into class folders."""
    random = np.random.default_rng(5)
    down, across = np.mgrid[:40, :48] / 6
    for number in range(n):
        label = CLASSES[number % 3]
        x, y = across - random.uniform(2, 5), down - random.uniform(2, 5)
        waves = {"blobs": np.sin(2 * x) * np.sin(2 * y), "rings": np.sin(3 * np.hypot(x, y))}
        wave = waves.get(label, np.sin(3 * x))
        pixels = 128 + 45 * wave[..., None] + random.normal(0, 60, (40, 48, 3))
        path = folder / label / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def small_network(keras, seed=0):
    """Return four convolutions, the second and third inside a residual block, with batch statistics."""
    layers = keras.layers
    inputs = keras.Input((SIZE_PX, SIZE_PX, 3))
    x = layers.Conv2D(8, 5, strides=2, padding="same", name="edges")(inputs)
    x = layers.ReLU(name="edges_relu")(layers.BatchNormalization(name="edges_bn")(x))
    inside = layers.Conv2D(8, 3, padding="same", name="inside")(x)
    inside = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.ReLU(name="relu")(inside))
    x = layers.Add(name="block")([x, inside])
    x = layers.Conv2D(12, 3, strides=2, name="parts")(x)
    x = layers.ReLU(name="parts_relu")(layers.BatchNormalization(name="parts_bn")(x))
    x = layers.Conv2D(16, 1, name="wholes")(x)
    network = keras.Model(inputs, layers.ReLU(name="wholes_relu")(x))
    random = np.random.default_rng(seed)
    for variable in network.weights:
        if "bn" in variable.path:
            low, high = (-0.1, 0.1) if variable.path.endswith(("mean", "beta")) else (0.2, 0.6)
            variable.assign(random.uniform(low, high, variable.shape))
        elif len(variable.shape) > 1:
            fan_in = np.prod(variable.shape[:2] if "depthwise" in variable.path else variable.shape[:-1])
            variable.assign(random.normal(0, (3 / fan_in) ** 0.5, variable.shape))
    return network


def randomize(network):
    """Give a network of keras.applications weights that keep its activations at a sensible size."""
    random = np.random.default_rng(0)
    for variable in network.weights:
        shape = tuple(variable.shape)
        if "variance" in variable.path:
            values = random.uniform(0.2, 0.6, shape)
        elif variable.path.endswith("gamma"):
            values = random.uniform(0.8, 1.2, shape)
        elif len(shape) > 1:
            fan_in = np.prod(shape[:2] if "depthwise" in variable.path else shape[:-1])
            values = random.normal(0, (2 / fan_in) ** 0.5, shape)
        else:
            values = random.normal(0, 0.1, shape)
        variable.assign(values.astype(np.float32))
    return network
