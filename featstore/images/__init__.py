"""From somewhere to pixels: sources of images, their bytes, and the decoding of these into arrays."""

from typing import TYPE_CHECKING

from featstore.lazy import lazy_names

if TYPE_CHECKING:
    from featstore.images.decode import decode_image, decode_views, iter_views
    from featstore.images.digits import write_digits
    from featstore.images.records import ImageRecord, Source
    from featstore.images.sheet import view_sheet
    from featstore.images.sources import open_source
    from featstore.images.views import View, ViewRecipe

__all__ = [
    "ImageRecord",
    "Source",
    "View",
    "ViewRecipe",
    "decode_image",
    "decode_views",
    "iter_views",
    "open_source",
    "view_sheet",
    "write_digits",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ImageRecord": "records",
        "Source": "records",
        "View": "views",
        "ViewRecipe": "views",
        "decode_image": "decode",
        "decode_views": "decode",
        "iter_views": "decode",
        "open_source": "sources",
        "view_sheet": "sheet",
        "write_digits": "digits",
    },
)
