"""Photos to measure on: a folder of real ones, or generated ones where there is none."""

import argparse
import glob
import os
import shutil

import numpy as np
from PIL import Image

from featstore.images import open_source

__all__ = [
    "add_options",
    "beside_checkout",
    "choose",
    "find",
    "find_trained",
    "generate",
    "seeded_weights",
]


def beside_checkout(*names: str) -> str | None:
    """Return the path of real data that lies beside the checkout, or None where it does not."""
    path = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", *names)
    return os.path.abspath(path) if os.path.exists(path) else None


def find(folder: str | None, work: str, count: int) -> tuple[str, str]:
    """Return a folder of class folders and what is in it, in words."""
    folder = folder or beside_checkout("flowers")
    if folder is None:
        folder = os.path.join(work, "generated")
        generate(folder, count, side_px=(375, 500))
        return folder, "generated 500 x 375 photos"
    return os.path.abspath(folder), "real photos"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add options for the network and the photos of a benchmark that needs trained weights."""
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument(
        "--photos", metavar="FOLDER", help="class folders; default: those beside the checkout"
    )
    parser.add_argument("--weights", metavar="FILE", help="default: beside the checkout")


def find_trained(options: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the folder of photos and the weights that were asked for, or that lie beside the checkout."""
    folder, weights = options.photos or beside_checkout("flowers"), options.weights
    if weights is None and options.backbone == "mobilenet_v2":
        weights = beside_checkout("weights", "mobilenet_v2_1.0_224_no_top.h5")
    return folder, weights


def choose(folder: str, into: str, count: int, *, megapixels: float | None = None) -> str:
    """Copy ``count`` photos, evenly taken, into class folders; enlarged, if asked, to so many megapixels."""
    records = open_source(folder).records
    for record in records[:: max(len(records) // count, 1)][:count]:
        source, target = os.path.join(folder, record.path), os.path.join(into, record.path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if megapixels is None:
            shutil.copy(source, target)
            continue
        with Image.open(source) as image:
            scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
            size = round(image.width * scale), round(image.height * scale)
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return into


def generate(folder: str, count: int, *, side_px: tuple[int, int], classes: int = 5) -> None:
    """Write distinct JPEG files of smooth random pictures, height by width ``side_px``."""
    generator = np.random.default_rng(0)
    height, width = side_px
    for number in range(count):
        path = os.path.join(folder, f"class{number % classes}", f"{number:06d}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)


def seeded_weights(backbone: str, folder: str) -> str:
    """Write seeded random weights, which cost as much time as trained ones, and return the file."""
    from featstore.backbones import find_backbone
    from featstore.backbones.keras.quiet import quiet_import

    with quiet_import():
        import keras

    path = os.path.join(folder, f"{backbone}.weights.h5")
    if not glob.glob(path):
        keras.utils.set_random_seed(0)
        build = getattr(keras.applications, find_backbone(backbone).keras_name)
        build(include_top=False, weights=None).save_weights(path)
    return path
