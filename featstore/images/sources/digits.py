"""A small labelled source for trying things out: the handwritten digits that scikit-learn brings."""

import os

__all__ = ["write_digits"]


def write_digits(folder: str | os.PathLike[str]) -> int:
    """Write scikit-learn's bundled handwritten digits as PNG files in class folders.

    They are the 1,797 8 x 8 images of the test set of Alpaydin & Kaynak, "Optical Recognition of Handwritten
    Digits", UCI Machine Learning Repository, 1998. Files that are there already are left alone.

    Parameters
    ----------
    folder : path
        Made where it does not exist; image number 12, a three, becomes ``folder/3/0012.png``.

    Returns
    -------
    int
        Number of images.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    # Values are 0 to 16: counts of set pixels in 4 x 4 blocks.
    pixels = (digits.images * (255 / 16)).round().astype("uint8")
    for number, (picture, label) in enumerate(zip(pixels, digits.target, strict=True)):
        path = os.path.join(folder, str(label), f"{number:04d}.png")
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Whole or not at all; that they reach the disk is not waited for, 1,797 times.
            temporary = f"{path}.{os.getpid()}"
            Image.fromarray(picture).save(temporary, format="PNG")
            os.replace(temporary, path)
    return len(pixels)
