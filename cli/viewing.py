"""`featstore views`, and the options that say how an image is seen."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .console import count, example, force_option, json_option, open_store, print_json, print_table, say

if TYPE_CHECKING:
    from featstore import ViewRecipe

__all__ = ["RECIPE_FIELDS", "ImageSize", "recipe_options", "recipe_told", "resize_option", "views"]

RECIPE_FIELDS = ("flip", "random_crop", "random_scale", "random_brightness")


class ImageSize(click.ParamType[int | tuple[int, int]]):
    """``224`` or ``224x320`` (height x width)."""

    name = "PIXELS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int]:
        sides = str(value).lower().split("x")
        if not all(side.isdecimal() and int(side) > 0 for side in sides) or len(sides) > 2:
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH", param, ctx)
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


resize_option = click.option(
    "--resize",
    type=click.Choice(["stretch", "crop", "pad"]),
    default="stretch",
    show_default=True,
    help="How images of another shape are fitted.",
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a view recipe, those of TensorFlow's ``retrain.py``."""
    for name, most, says in (
        ("--random-brightness", 100, "By how much, at most, a view is brighter or darker."),
        ("--random-scale", 1000, "By how much, at most, a view is enlarged on top of that."),
        ("--random-crop", 1000, "By how much the picture is larger than the part that a view shows."),
    ):
        kind = click.FloatRange(0, most)
        command = click.option(name, type=kind, default=0.0, metavar="PERCENT", help=says)(command)
    return click.option("--flip", is_flag=True, help="Mirror every second view.")(command)


def recipe_told(options: dict[str, Any]) -> "ViewRecipe | None":
    """Take a view recipe out of a command's options; None where none of them says anything."""
    told = {name: options.pop(name) for name in RECIPE_FIELDS}
    if not any(told.values()):
        return None
    from featstore import ViewRecipe

    return ViewRecipe(**told)


@click.command(
    epilog=example("featstore views digits/0/0000.png --out views.png --random-crop 20 --image-size 96"),
    short_help="Show what a view recipe does to an image.",
)
@click.argument("image", type=click.Path())
@click.option(
    "--out", "-o", required=True, metavar="FILE", type=click.Path(), help="A .png, .jpg or .webp file."
)
@force_option
@click.option(
    "--views",
    "n_views",
    type=click.IntRange(2, 2**16),
    help="How many.  [default: 8; 2 if the recipe only flips]",
)
@recipe_options
@click.option("--image-size", type=ImageSize(), default="224", show_default=True, help="Or HEIGHTxWIDTH.")
@resize_option
@click.option(
    "--store", type=click.Path(), help="Take recipe, size and resize rule from a space of this store."
)
@click.option("--space", metavar="NAME", help="Which space.  [default: the only one that has views]")
@json_option
@click.pass_context
def views(
    ctx: click.Context,
    /,
    image: str,
    out: str,
    n_views: int | None,
    image_size: int | tuple[int, int],
    resize: str,
    store: str | None,
    space: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Lay the views of IMAGE side by side in one picture, as a backbone sees them.

    View 0 is the image itself. How the others differ is said by --flip, --random-crop, --random-scale and
    --random-brightness, as for `featstore extract`, or by a store that has views: --store and --space.
    """
    import featstore
    from featstore.images.in_memory import content_of
    from featstore.images.sheet import check_sheet_path, save_sheet

    recipe = recipe_told(options)
    size_px = (image_size, image_size) if isinstance(image_size, int) else image_size
    if store is not None or space is not None:
        given = [name for name in (*RECIPE_FIELDS, "image_size", "resize") if _is_given(ctx, name)]
        if given:
            raise click.UsageError(
                f"the store says how its views are made; leave --{given[0].replace('_', '-')} out, or --store"
            )
        spec = _space_with_views(store, space).spec
        recipe, size_px, resize = spec.views, spec.size_px, spec.resize
    if recipe is None:
        raise click.UsageError(
            "how do the views differ? say it with one or more of --flip, --random-crop, --random-scale and "
            "--random-brightness, or with --store"
        )
    check_sheet_path(out, overwrite=force, inputs=[image])
    sheet = featstore.view_sheet(image, recipe, n_views=n_views, size_px=size_px, resize=resize)
    save_sheet(sheet, out, overwrite=force)
    digest = featstore.content_hash(content_of(image))
    shown = min(8, recipe.n_distinct) if n_views is None else n_views
    drawn = [recipe.draw(digest, view) for view in range(shown)]
    if as_json:
        print_json(
            {
                "path": os.path.abspath(out),
                "image": os.path.abspath(image),
                "content_hash": digest.hex(),
                "size_px": list(size_px),
                "resize": resize,
                "recipe": recipe.to_dict(),
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
    say(f"{count(shown, 'view')} of {image} in {out}")


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _space_with_views(path: str | None, name: str | None) -> Any:
    """Open the space that is named, or the only one that has views."""
    from featstore.errors import ViewError

    store = open_store(path)
    if name is None:
        having = [name for name in store.space_names if store.space(name).spec.views is not None]
        if len(having) > 1:
            raise click.UsageError(f"several spaces have views, name one with --space: {', '.join(having)}")
        name = having[0] if having else None
    space = store.space(name)
    if space.spec.views is None:
        raise ViewError(
            f"the space {space.name} has no views but the images themselves; extract with --views 8 and "
            "--flip or --random-crop 10"
        )
    return space
