"""The pipeline itself: how images are grouped, and what networks see of them."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fakes import CountingBackbone
from featstore.flow import loading
from featstore.flow.loading import GivenItem
from featstore.flow.stream import Pass, stream_images
from featstore.hashing import content_hash
from featstore.images import ViewRecipe
from featstore.images.decode import decode_views, iter_views

RECIPE = ViewRecipe(flip=True, random_crop=20)


def photo(seed):
    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def streamed(contents, passes, **options):
    return list(stream_images(map(GivenItem, contents), passes, workers=2, **options))


def one_pass(network, **options):
    return Pass(network=network, spec=network.spec, **options)


def expected(network, content, views):
    digest = content_hash(content)
    pixels = decode_views(content, size_px=(8, 8), recipe=RECIPE, content_hash=digest, views=views)
    return network.forward(np.stack(pixels))


@pytest.mark.parametrize("together", [True, False])
def test_rows_are_those_of_the_keys_beside_them(together):
    network = CountingBackbone(batch_size=7, views=RECIPE)
    contents = [photo(seed) for seed in range(5)]
    groups = streamed(contents, [one_pass(network)], n_views=3, together=together)
    rows = {key: row for group in groups for key, row in zip(group.keys[0], group.rows[0], strict=True)}
    for content in contents:
        seen = np.stack([rows[content_hash(content), view] for view in range(3)])
        np.testing.assert_array_equal(seen, expected(network, content, range(3)))
    sizes = [len(group.keys[0]) for group in groups]
    assert sizes == ([6, 6, 3] if together else [7, 7, 1])
    assert [len(group.images) for group in groups] == [2, 2, 1]


def test_networks_that_lack_different_views_share_one_decoding(monkeypatch):
    asked = []

    def noted(content, *, views, **options):
        asked.append(list(views))
        return iter_views(content, views=views, **options)

    monkeypatch.setattr(loading, "iter_views", noted)
    first, second = (CountingBackbone(seed=seed, views=RECIPE, batch_size=4) for seed in (0, 1))
    content = photo(0)
    passes = [one_pass(first, wanted=lambda digest: [0, 2]), one_pass(second, wanted=lambda digest: [1, 2])]
    groups = streamed([content], passes, n_views=3, together=False)
    assert asked == [[0, 1, 2]]
    (group,) = groups
    assert [view for _, view in group.keys[0]] == [0, 2]
    assert [view for _, view in group.keys[1]] == [1, 2]
    np.testing.assert_array_equal(group.rows[0], expected(first, content, [0, 2]))
    np.testing.assert_array_equal(group.rows[1], expected(second, content, [1, 2]))


def test_views_of_which_nothing_is_claimed_are_not_computed():
    network = CountingBackbone(batch_size=4)
    one = one_pass(
        network, wanted=lambda digest: [0], claim=lambda digest, views: digest != content_hash(photo(0))
    )
    groups = streamed([photo(0), photo(1)], [one])
    assert network.images == 1
    assert [bool(image.views) for group in groups for image in group.images] == [False, True]


def test_images_of_which_nothing_is_wanted_come_before_the_network_is_needed():
    network = CountingBackbone(batch_size=2)
    groups = stream_images(
        (GivenItem(photo(seed)) for seed in range(10**6)),
        [one_pass(network, wanted=lambda digest: [])],
        workers=2,
    )
    assert len(next(groups).images) == 4
    assert network.batches == 0
    groups.close()


def test_pixels_are_let_go_once_the_network_has_taken_them():
    network = CountingBackbone(batch_size=2)
    images = [np.zeros((8, 8, 3), np.uint8) for _ in range(3)]
    for group in streamed(images, [one_pass(network)]):
        assert all(image.pixels == {} for image in group.images)
        assert group.take_pixels(0) is None


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="found NoneType"):
        streamed([None], [one_pass(CountingBackbone())])
