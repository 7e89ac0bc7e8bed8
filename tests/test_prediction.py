import os

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.errors import FingerprintMismatchError
from featstore.images.decode import decode_image


@pytest.fixture
def photos(tmp_path):
    """Forty dark and forty bright pictures, and their paths."""
    generator = np.random.default_rng(0)
    for label, low in (("bright", 150), ("dark", 0)):
        os.makedirs(tmp_path / "photos" / label)
        for number in range(40):
            pixels = generator.integers(low, low + 100, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def head(photos, tmp_path):
    featstore.extract(photos, tmp_path / "photos.fstore", backbone=CountingBackbone())
    return featstore.fit(featstore.FeatureStore(tmp_path / "photos.fstore").table(), params={"C": 1.0})


def paths_of(photos):
    return [str(path) for path in sorted(photos.glob("*/*.png"))]


def test_photos_are_labelled_in_their_order(photos, head):
    told = list(featstore.predict(head, paths_of(photos)[::-1], backbone=CountingBackbone()))
    assert [prediction.path for prediction in told] == paths_of(photos)[::-1]
    right = [os.path.basename(os.path.dirname(prediction.path)) for prediction in told]
    assert [prediction.label for prediction in told] == right


def test_probabilities_are_the_heads_own(photos, head):
    backbone = CountingBackbone()
    path = paths_of(photos)[0]
    (told,) = featstore.predict(head, [path], backbone=backbone, top=2)
    with open(path, "rb") as file:
        row = backbone.forward(decode_image(file.read(), size_px=(8, 8))[None])
    expected = dict(zip(head.classes.tolist(), head.predict_proba(row)[0], strict=True))
    assert dict(told.top) == pytest.approx(expected)
    assert told.probability == told.top[0][1] == max(expected.values())


@pytest.mark.parametrize("bad", [[0], [3], [4], [0, 1, 2, 3], [9], [8, 9], list(range(10))])
def test_broken_images_keep_their_place(photos, head, tmp_path, bad):
    paths = paths_of(photos)[:10]
    for number in bad:
        paths[number] = str(tmp_path / f"broken{number}.png")
        with open(paths[number], "wb") as file:
            file.write(b"nothing")
    told = list(featstore.predict(head, paths, backbone=CountingBackbone(batch_size=4)))
    assert [prediction.path for prediction in told] == paths
    assert [number for number, prediction in enumerate(told) if prediction.reason] == bad
    assert {prediction.label for number, prediction in enumerate(told) if number not in bad} <= {"bright"}


def test_no_images_are_no_predictions(head):
    assert list(featstore.predict(head, [], backbone=CountingBackbone())) == []


def test_a_saved_head_is_given_by_its_path(photos, head, tmp_path):
    head.save(tmp_path / "a.head")
    (told,) = featstore.predict(tmp_path / "a.head", paths_of(photos)[:1], backbone=CountingBackbone())
    assert told.label == "bright"


def test_another_backbone_is_refused(head):
    with pytest.raises(FingerprintMismatchError, match=r"fake0-.*fake1-"):
        featstore.predict(head, [], backbone=CountingBackbone(seed=1))


def test_progress_counts_the_images(photos, head):
    calls = []
    list(featstore.predict(head, paths_of(photos)[:10], backbone=CountingBackbone(), progress=calls.append))
    assert calls == [4, 8, 10]


def test_what_the_head_is_not_sure_of_is_unknown(photos, head):
    from dataclasses import replace

    told = list(featstore.predict(head, paths_of(photos), backbone=CountingBackbone()))
    border = sorted(prediction.probability for prediction in told)[len(told) // 2]
    careful = replace(head, reject={"below": border, "validation": {}, "test": {}})
    found = list(featstore.predict(careful, paths_of(photos), backbone=CountingBackbone()))

    for before, after in zip(told, found, strict=True):
        assert after.is_unknown == (before.probability < border)
        assert after.label == (None if after.is_unknown else before.label)
        assert (after.probability, after.top, after.reason) == (before.probability, before.top, None)
    assert any(prediction.is_unknown for prediction in found)
    assert all(
        prediction.label
        for prediction in featstore.predict(careful, paths_of(photos), backbone=CountingBackbone(), reject=0)
    )


def test_an_unknown_image_says_so_in_json(photos, head):
    (told,) = featstore.predict(head, paths_of(photos)[:1], backbone=CountingBackbone(), reject=0.9999999)

    assert told.to_dict()["label"] is None
    assert "reason" not in told.to_dict()
    assert not featstore.prediction.Prediction(path="a", reason="broken").is_unknown


def test_an_unfit_threshold_is_refused(photos, head):
    with pytest.raises(featstore.FeatstoreError, match="reject is a probability"):
        featstore.predict(head, paths_of(photos), backbone=CountingBackbone(), reject=1)
