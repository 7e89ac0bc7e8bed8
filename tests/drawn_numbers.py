"""Pictures of discs, listed with the share of the picture that they cover and their number."""

import csv

import numpy as np
from PIL import Image, ImageDraw


def write_discs(folder, n, *, seed=0):
    """Write n pictures and ``discs.csv`` with the columns path, area (per cent), discs and sheet."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(n):
        picture = Image.new("L", (48, 48))
        pen = ImageDraw.Draw(picture)
        discs = int(random.integers(1, 5))
        for _ in range(discs):
            radius, (x, y) = random.integers(3, 9), random.integers(8, 40, 2)
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
        area = round(100 * float((np.asarray(picture) > 0).mean()), 2)
        picture.save(folder / f"{number:04d}.png")
        rows.append([f"{number:04d}.png", area, discs, f"sheet {number // 4}"])
    with open(folder / "discs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["path", "area", "discs", "sheet"], *rows])
    return folder / "discs.csv"
