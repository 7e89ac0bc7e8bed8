"""`featstore views`."""

import os
from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count

from ..finding import open_store
from ..options.backbone import ImageSize, resize_option
from ..options.groups import command, option_group
from ..options.shared import force_option, json_option, single_name_option
from ..options.view import RECIPE_FIELDS, recipe_options
from ..printing import echo, example, print_json, print_table

if TYPE_CHECKING:
    from featstore import ViewRecipe
    from featstore.store import Space

__all__ = ["views"]


@command(
    epilog=example("featstore views digits/0/0000.png --out views.png --random-crop 20 --image-size 96"),
    short_help="Preview data augmentation (views) of an image.",
)
@click.argument("image", type=click.Path())
@recipe_options(
    click.option(
        "--views",
        "n_views",
        type=click.IntRange(2, 2**16),
        help="Number of views.  [default: 8; 2 if the recipe only flips]",
    )
)
@option_group(
    "Input of the backbone",
    click.option(
        "--image-size",
        type=ImageSize(),
        default="224",
        help="Size in pixels, or HEIGHTxWIDTH.",
    ),
    resize_option,
)
@option_group(
    "Views of a store",
    click.option(
        "--store",
        type=click.Path(),
        help="Take the recipe, image size and --resize from a space of this store.",
    ),
    single_name_option("--space", "Space of --store.  [default: the only one with views]"),
)
@option_group(
    "Output",
    click.option(
        "--out",
        "-o",
        required=True,
        metavar="FILE",
        type=click.Path(),
        help="Image file to write (.png, .jpg or .webp).",
    ),
    force_option,
)
@json_option
def views(
    image: str,
    out: str,
    n_views: int | None,
    views: "ViewRecipe | None",
    image_size: int | tuple[int, int],
    resize: str | None,
    store: str | None,
    space: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Draw the views of IMAGE side by side in one picture, as the backbone sees them.

    View 0 is the image itself. The others are defined by --flip, --random-crop, --random-scale and
    --random-brightness, as for `featstore extract`, or by a store with views (--store and --space).
    """
    import featstore
    from featstore.images import check_sheet_path, content_of, save_sheet
    from featstore.io import is_url

    size_px = (image_size, image_size) if isinstance(image_size, int) else image_size
    picture: dict[str, Any] = {"size_px": size_px, "resize": resize or "stretch"}
    if store is not None or space is not None:
        given = [name for name in (*RECIPE_FIELDS, "image_size", "resize") if _is_given(name)]
        if given:
            raise click.UsageError(
                f"the store defines its views; omit either --{given[0].replace('_', '-')} or --store"
            )
        spec = _space_with_views(store, space).spec
        views, picture = spec.views, spec.picture
    if views is None:
        raise click.UsageError(
            "the views are not defined; give one or more of --flip, --random-crop, --random-scale and "
            "--random-brightness, or --store"
        )
    check_sheet_path(out, overwrite=force, inputs=[image])
    sheet = featstore.view_sheet(image, views, n_views=n_views, **picture)
    save_sheet(sheet, out, overwrite=force)
    digest = featstore.content_hash(content_of(image))
    shown = min(8, views.n_distinct) if n_views is None else n_views
    drawn = [views.draw(digest, view) for view in range(shown)]
    if as_json:
        print_json(
            {
                "path": os.path.abspath(out),
                "image": image if is_url(image) else os.path.abspath(image),
                "content_hash": digest.hex(),
                **picture,
                "size_px": list(picture["size_px"]),
                "recipe": views.to_dict(),
                "views": [{"view": view, **seen.__dict__} for view, seen in enumerate(drawn)],
            }
        )
        return
    print_table(
        ("view", "left", "top", "side", "brightness", "mirrored"),
        [
            (
                view,
                f"{100 * seen.left:.1f}%",
                f"{100 * seen.top:.1f}%",
                f"{100 * seen.size:.1f}%",
                f"{100 * seen.brightness:.1f}%",
                "yes" if seen.flip else "no",
            )
            for view, seen in enumerate(drawn)
        ],
    )
    echo(f"{count(shown, 'view')} of {image} in {out}")


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _space_with_views(path: str | None, name: str | None) -> "Space":
    """Open the given space, or the only one with views."""
    from featstore.errors import ViewError

    store = open_store(path)
    if name is None:
        having = [name for name in store.space_names if store.space(name).spec.views is not None]
        if len(having) > 1:
            raise click.UsageError(f"several spaces have views, choose one with --space: {', '.join(having)}")
        name = having[0] if having else None
    space = store.space(name)
    if space.spec.views is None:
        raise ViewError(
            f"the space {space.name} has no views but the images themselves; extract with --views 8 and "
            "--flip or --random-crop 10"
        )
    return space
