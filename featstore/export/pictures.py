"""Check of a head's inputs: an exported model takes one image size, and its mirror image."""

from featstore.backbones.spec import BackboneSpec, JoinedSpec
from featstore.errors import ExportError

__all__ = ["check_pictures", "describe_picture"]


def check_pictures(spec: BackboneSpec | JoinedSpec, test_views: int) -> None:
    """Raise ExportError if a head needs more than one image's pixels."""
    parts = spec.parts
    if len({(*part.picture.items(), _magnification(part)) for part in parts}) > 1:
        descriptions = "; ".join(
            f"{part.name} {describe_picture(part)}, views {_recipe(part)}" for part in parts
        )
        raise ExportError(
            "a model takes an image in one size, and the backbones of this head see it in several ways "
            f"({descriptions}): resizing inside of the model would give other pixels than those that the "
            "head was fitted on. Predict with the head itself, or fit one on spaces that differ in none of "
            "these"
        )
    if test_views < 1:
        raise ExportError(f"test_views must be at least 1; found {test_views}")
    if test_views == 1 or (test_views == 2 and all(map(_only_flips, parts))):
        return
    recipes = dict.fromkeys(map(_recipe, parts))
    raise ExportError(
        f"a model cannot look at {test_views} views of an image (here: {'; '.join(recipes)}): they are "
        "drawn from the content of its file, and a model sees pixels alone. All that it can do is to average "
        "over 2, an image and its mirror image. Write the head for the image itself with --test-views 1, or "
        "predict with the head"
    )


def describe_picture(spec: BackboneSpec) -> str:
    """Return how an image is brought to a network's size, in words."""
    height, width = spec.size_px
    more = [spec.interpolation] if spec.interpolation else []
    more += [f"the central {spec.crop_fraction:.4g} of its sides"] if spec.crop_fraction else []
    return ", ".join([f"{height} x {width} px", spec.resize, *more])


def _recipe(spec: BackboneSpec) -> str:
    return "none" if spec.views is None else str(spec.views)


def _only_flips(spec: BackboneSpec) -> bool:
    return spec.views is not None and spec.views.n_distinct == 2


def _magnification(spec: BackboneSpec) -> float:
    """Return the factor that decides at which fraction of its size a JPEG is decoded."""
    return 1.0 if spec.views is None else spec.views.magnification
