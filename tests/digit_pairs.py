"""Pictures of two handwritten digits side by side, listed with the labels of both."""

import csv

import numpy as np
from PIL import Image


def write_pairs(folder, n, *, seed=0):
    """Write n pictures and ``pairs.csv``, with columns ``labels`` and one of 0 and 1 for each digit to 4."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    of_class = [digits.images[digits.target == number] for number in range(5)]
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(n):
        # One of ten shows no digit at all, and some the same one twice.
        pair = random.integers(0, 5, 2) if number % 10 else []
        parts = [of_class[one][random.integers(len(of_class[one]))] for one in pair] or [np.zeros((8, 8))] * 2
        pixels = np.clip(np.concatenate(parts, axis=1) * 15, 0, 255).astype(np.uint8)
        pixels[0, :2] = number // 256, number % 256
        Image.fromarray(pixels).resize((64, 32), Image.Resampling.NEAREST).save(folder / f"{number:04d}.png")
        labels = sorted({str(one) for one in pair})
        rows.append(
            [f"{number:04d}.png", "|".join(labels) or "|", *(int(str(one) in labels) for one in range(5))]
        )
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "labels", *map(str, range(5))], *rows])
    return folder / "pairs.csv"
