"""A small labelled example source: scikit-learn's handwritten digits."""

import os

__all__ = ["write_digits"]


def write_digits(folder: str | os.PathLike[str], *, n_images: int | None = None) -> int:
    """Write scikit-learn's handwritten digits, all or the first few, as PNG files in class folders."""
    # 1,797 images of 8 x 8 pixels: the test set of Alpaydin & Kaynak, "Optical Recognition of Handwritten
    # Digits", UCI Machine Learning Repository, 1998. Existing files are kept.
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Values are 0 to 16: counts of set pixels in 4 x 4 blocks.
    pixels = (digits.images[:n_images] * (255 / 16)).round().astype("uint8")
    for number, (picture, label) in enumerate(zip(pixels, digits.target[:n_images], strict=True)):
        path = os.path.join(folder, str(label), f"{number:04d}.png")
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Whole or not at all; that they reach the disk is not waited for, 1,797 times.
            temporary = f"{path}.{os.getpid()}"
            Image.fromarray(picture).save(temporary, format="PNG")
            os.replace(temporary, path)
    return len(pixels)
