"""Small pictures of noise, dated back: what was just written is read again by the next run."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

DATE_NS = 10**18


def write_picture(path, seed):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, ns=(DATE_NS + seed, DATE_NS + seed))


def write_dated(path, content):
    path.write_bytes(content)
    os.utime(path, ns=(DATE_NS, DATE_NS))


def write_broken(path):
    write_dated(path, b"\x89PNG\r\n\x1a\n")
