"""Contact sheets of image files, in rows with a title and captions."""

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from featstore.errors import ImageError, SearchError
from featstore.images.decode import decode_image
from featstore.images.reading import default_workers, map_ahead, read_image
from featstore.images.reasons import MAX_PIXELS
from featstore.messages import printable

__all__ = ["contact_sheet"]

_PICTURE_PX, _GAP_PX, _LINE_PX = 160, 6, 16
_COLUMNS = 10
_AHEAD = 64


def contact_sheet(rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> Image.Image:
    """Draw rows of (title, [(path, caption)]); a file that cannot be read is a grey box with the reason."""
    columns = min(_COLUMNS, max((len(pictures) for _, pictures in rows), default=1) or 1)
    cell_px = _PICTURE_PX + _GAP_PX, _PICTURE_PX + _LINE_PX + _GAP_PX
    places, titles, top = [], [], _GAP_PX
    for title, pictures in rows:
        titles.append((top, title))
        top += _LINE_PX
        for number, (path, caption) in enumerate(pictures):
            line, column = divmod(number, columns)
            places.append((_GAP_PX + column * cell_px[0], top + line * cell_px[1], path, caption))
        top += -(-len(pictures) // columns) * cell_px[1]
    size = _GAP_PX + columns * cell_px[0], top
    if size[0] * size[1] > MAX_PIXELS or size[1] > 65_500:
        raise SearchError(
            f"a sheet of {len(places):,} pictures would have {size[0]} x {size[1]} pixels; choose fewer"
        )
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for top, title in titles:
        pen.text((_GAP_PX, top), _fitting(title, size[0] - 2 * _GAP_PX, font), "black", font)
    found = map_ahead(_picture, (place[2] for place in places), workers=default_workers(), ahead=_AHEAD)
    for (left, top, path, caption), picture in zip(places, found, strict=True):
        if isinstance(picture, Image.Image):
            sheet.paste(picture, (left, top))
        else:
            pen.rectangle((left, top, left + _PICTURE_PX - 1, top + _PICTURE_PX - 1), "lightgrey")
            for line, text in enumerate((os.path.basename(path), picture)):
                shown = _fitting(text, _PICTURE_PX - 8, font)
                pen.text((left + 4, top + 4 + line * _LINE_PX), shown, "black", font)
        pen.text((left, top + _PICTURE_PX), _fitting(caption, _PICTURE_PX, font), "black", font)
    return sheet


def _picture(path: str) -> Image.Image | str:
    """Return a picture, or the reason why there is none."""
    try:
        pixels = decode_image(read_image(path), size_px=(_PICTURE_PX, _PICTURE_PX), resize="pad")
    except ImageError as error:
        return str(error)
    return Image.fromarray(pixels)


def _fitting(text: str, width_px: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text as one line, cut to a width."""
    shown = printable(text)
    if font.getlength(shown) <= width_px:
        return shown
    while shown and font.getlength(f"{shown}...") > width_px:
        shown = shown[:-1]
    return f"{shown}..."
