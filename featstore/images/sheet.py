"""Contact sheets of an image's views."""

import math
import os
from collections.abc import Iterable

from PIL import Image, ImageDraw, ImageFont

from featstore.errors import ImageError, ViewError
from featstore.hashing import content_hash
from featstore.images.decode import decode_views
from featstore.images.in_memory import GivenImage, content_of, path_of
from featstore.images.reasons import MAX_PIXELS
from featstore.images.views import ViewRecipe, checked_n_views
from featstore.io.atomic import replacing
from featstore.io.outputs import check_output

__all__ = ["check_sheet_path", "save_sheet", "view_sheet"]

_FORMATS = {".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
_GAP_PX, _LINE_PX = 6, 14
_COLUMNS = 4


def view_sheet(
    image: GivenImage,
    recipe: ViewRecipe,
    *,
    n_views: int | None = None,
    size_px: tuple[int, int] = (224, 224),
    resize: str = "stretch",
    interpolation: str = "bilinear",
    crop_fraction: float = 1.0,
) -> Image.Image:
    """Return a contact sheet of an image's views, with exactly the pixels that the backbone gets.

    Parameters
    ----------
    image : path, bytes, PIL.Image.Image or ndarray
        A file, its whole bytes, a picture, or uint8 pixels of shape (height, width, 3). Its views depend on
        its content, so a photo has the same ones under any name.
    recipe : ViewRecipe
    n_views : int, optional
        From 2 to 65,536. By default 8, or as many as the recipe can tell apart.
    size_px, resize, interpolation, crop_fraction
        As for :func:`~featstore.images.decode_image`; those of the backbone.

    Returns
    -------
    PIL.Image.Image
        RGB, views from left to right and from top to bottom.

    Raises
    ------
    ImageError
        The image cannot be read or decoded.
    ViewError
        There are fewer views, or the sheet would have too many pixels.
    ValueError
        ``size_px`` or ``resize`` has a value that it cannot have.

    Examples
    --------
    >>> import numpy as np
    >>> sheet = view_sheet(np.zeros((32, 32, 3), np.uint8), ViewRecipe(flip=True), size_px=(64, 64))
    >>> sheet.size
    (146, 96)
    """
    wanted = min(8, recipe.n_distinct) if n_views is None else checked_n_views(n_views, recipe)
    height, width = size_px
    columns = max(min(wanted, _COLUMNS), math.ceil(math.sqrt(wanted)))
    rows = -(-wanted // columns)
    cell_width, cell_height = width + _GAP_PX, height + _LINE_PX + _GAP_PX
    sheet_size = _GAP_PX + columns * cell_width, 2 * _GAP_PX + rows * cell_height
    if sheet_size[0] * sheet_size[1] > MAX_PIXELS:
        raise ViewError(
            f"a sheet of {wanted:,} views of {width} x {height} pixels would have more than {MAX_PIXELS:,} "
            "pixels; choose fewer views, or a smaller image size"
        )
    try:
        content = content_of(image)
        pictures = decode_views(
            content,
            size_px=size_px,
            resize=resize,
            interpolation=interpolation,
            crop_fraction=crop_fraction,
            recipe=recipe,
            content_hash=content_hash(content),
            views=range(wanted),
        )
    except ImageError as error:
        path = path_of(image)
        raise ImageError(str(error) if path is None else f"{path}: {error}") from error
    sheet = Image.new("RGB", sheet_size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for view, pixels in enumerate(pictures):
        row, column = divmod(view, columns)
        left, top = _GAP_PX + column * cell_width, _GAP_PX + row * cell_height
        pen.text((left, top), str(view), "black", font)
        sheet.paste(Image.fromarray(pixels), (left, top + _LINE_PX))
    return sheet


def save_sheet(sheet: Image.Image, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a sheet to a file atomically."""
    target = check_sheet_path(path, overwrite=overwrite)
    with replacing(target) as temporary:
        sheet.save(temporary, _FORMATS[os.path.splitext(target)[1].lower()])


def check_sheet_path(
    path: str | os.PathLike[str], *, overwrite: bool = False, inputs: Iterable[str] = ()
) -> str:
    """Raise ViewError if a sheet cannot be written to a path."""
    if os.path.splitext(os.fspath(path))[1].lower() not in _FORMATS:
        found = os.path.basename(os.fspath(path))
        raise ViewError(f"a sheet ends in {', '.join(sorted(_FORMATS))}; found {found}")
    return check_output(path, overwrite=overwrite, inputs=inputs)
