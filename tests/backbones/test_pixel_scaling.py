"""One form for every statement of the same pixel scaling."""

import numpy as np
import pytest

from featstore.backbones.pixel_scaling import PixelScaling, settle_scaling
from featstore.errors import BackboneError


@pytest.mark.parametrize(
    ("stated", "word"),
    [
        ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, "torch"),
        ({"mean": 0.5, "std": 0.5}, "tf"),
        ({"mean": 127.5, "std": 127.5, "scale": 1}, "tf"),
        ({"mean": 1, "scale": 1 / 127.5}, "tf"),
        ({"scale": 1 / 255}, "unit"),
        ({"scale": 1}, "none"),
    ],
)
def test_a_scaling_that_has_a_name_is_called_by_it(stated, word):
    assert settle_scaling(None, **stated) == PixelScaling(preprocessing=word)


def test_the_same_scaling_in_other_units_is_the_same():
    clip = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
    wide = {name: tuple(255 * value for value in values) for name, values in clip.items()}
    assert settle_scaling(None, **clip) == settle_scaling(None, scale=1, **wide)
    mean, std = settle_scaling(None, **clip).standardization
    pixels = np.array([[0, 128, 255]])
    np.testing.assert_allclose((pixels - mean) / std, (pixels / 255 - clip["mean"]) / clip["std"], atol=1e-6)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"mean": (1, 2)}, "three"),
        ({"mean": 128, "std": 128}, "--scale 1"),
        ({"std": 0}, "greater than 0"),
        ({"scale": -1}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(stated, message):
    with pytest.raises(BackboneError, match=message):
        settle_scaling(None, **stated)
