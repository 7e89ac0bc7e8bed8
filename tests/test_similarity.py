import os

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.errors import FingerprintMismatchError, SearchError
from featstore.images import decode_image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve pictures, one of them twice, and one that is not in the store."""
    folder, random = tmp_path_factory.mktemp("similar"), np.random.default_rng(0)
    os.makedirs(folder / "photos" / "noise")
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(
            folder / f"photos/noise/{number:02}.png"
        )
    (folder / "photos/noise/12.png").write_bytes((folder / "photos/noise/03.png").read_bytes())
    Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / "new.png")
    featstore.extract(folder / "photos", folder / "photos.fstore", backbone=CountingBackbone())
    return folder


@pytest.fixture(scope="module")
def stored(photos):
    return featstore.FeatureStore(photos / "photos.fstore").table()


def test_a_new_image_passes_the_network(photos, stored):
    backbone = CountingBackbone()
    (found,) = featstore.find_similar(stored, [str(photos / "new.png")], top=4, backbone=backbone)
    pixels = decode_image((photos / "new.png").read_bytes(), size_px=(8, 8))
    expected = stored.neighbors(backbone.forward(pixels[None]), k=4)
    assert [image.row for image in found.images] == expected.rows[0].tolist()
    assert [image.similarity for image in found.images] == expected.similarity[0].tolist()
    assert (found.copies, found.reason) == ((), None)
    assert [image.path for image in found.images] == stored.paths[expected.rows[0]].tolist()


def test_a_stored_image_passes_none_and_its_copies_are_not_listed(photos, stored):
    path = str(photos / "photos/noise/03.png")
    done = []
    (found,) = featstore.find_similar(stored, [path], top=20, progress=done.append)
    assert done == [1]
    assert found.copies == (path, str(photos / "photos/noise/12.png"))
    assert len(found.images) == 11
    assert {image.row for image in found.images}.isdisjoint({3, 12})
    similarities = [image.similarity for image in found.images]
    assert similarities == sorted(similarities, reverse=True)


def test_images_keep_their_order_and_broken_ones_their_place(photos, stored):
    paths = [
        str(photos / "photos/noise/01.png"),
        str(photos / "gone.png"),
        b"nothing",
        str(photos / "new.png"),
    ]
    found = featstore.find_similar(stored, paths, top=2, backbone=CountingBackbone())
    assert [one.path for one in found] == [paths[0], paths[1], None, paths[3]]
    assert [len(one.images) for one in found] == [2, 0, 0, 2]
    assert found[1].reason == "no such file"
    assert found[2].reason
    assert found[2].to_dict()["images"] == []
    assert (
        found[3].images[0].row
        == stored.neighbors(
            CountingBackbone().forward(decode_image((photos / "new.png").read_bytes(), size_px=(8, 8))[None])
        ).rows[0, 0]
    )


def test_invalid_searches_are_refused(photos, stored):
    with pytest.raises(TypeError, match="several images"):
        featstore.find_similar(stored, str(photos / "new.png"))
    with pytest.raises(SearchError, match="top must be at least 1"):
        featstore.find_similar(stored, [], top=0)
    with pytest.raises(FingerprintMismatchError, match="are needed"):
        featstore.find_similar(stored, [], backbone=CountingBackbone(seed=1))
    assert featstore.find_similar(stored, []) == []


def test_a_table_of_views_is_refused(stored):
    class Views:
        views = np.array([0, 1])

    with pytest.raises(SearchError, match="a row for each view"):
        featstore.find_similar(Views(), [])
