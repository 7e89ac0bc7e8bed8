import os
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone, write_mean_model
from featstore.errors import ExportError, FingerprintMismatchError
from featstore.export import ExportedModel
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
    assert told.to_dict()["rejected"] is told.is_rejected is True
    assert "reason" not in told.to_dict()
    assert not featstore.prediction.Prediction(path="a", reason="broken").is_unknown


def test_an_unfit_threshold_is_refused(photos, head):
    with pytest.raises(featstore.FeatstoreError, match="reject must be a probability"):
        featstore.predict(head, paths_of(photos), backbone=CountingBackbone(), reject=1)


def test_an_image_is_known_by_its_path_bytes_picture_or_pixels(photos, head):
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    path = paths_of(photos)[3]
    picture = Image.open(path)
    with open(path, "rb") as file:
        data = file.read()
    expected = predictor.predict(path, top=2)
    assert expected.path == path
    for image in (data, picture, np.asarray(picture), np.asarray(picture.convert("RGBA").convert("RGB"))):
        found = predictor.predict(image, top=2)
        assert (found.path, found.label, found.top) == (None, expected.label, expected.top)


def test_grayscale_pixels_are_the_grays_of_a_colour_image(head):
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    grays = np.random.default_rng(3).integers(0, 256, (9, 7), np.uint8)
    colours = np.repeat(grays[..., None], 3, axis=2)
    assert predictor.predict(grays).top == predictor.predict(colours).top
    assert predictor.predict(grays[..., None]).top == predictor.predict(colours).top


def test_an_array_of_images_is_a_stream_of_them(head):
    images = np.random.default_rng(4).integers(0, 256, (6, 8, 8, 3), np.uint8)
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    assert list(predictor.stream(images)) == [predictor.predict(image) for image in images]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
        (b"nothing", "not an image"),
        ("a\0b", "no file has such a name"),
    ],
)
def test_what_is_no_image_has_a_reason(head, image, says):
    told = featstore.Predictor(head, backbone=CountingBackbone()).predict(image)
    assert told.label is None
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(told.reason)


def test_one_image_and_several_are_not_taken_for_each_other(photos, head):
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    with pytest.raises(TypeError, match="found list"):
        predictor.predict(paths_of(photos)[:2])
    for one in (paths_of(photos)[0], b"bytes", np.zeros((8, 8, 3), np.uint8), Image.new("L", (8, 8))):
        with pytest.raises(TypeError, match=f"found one {type(one).__name__}"):
            predictor.stream(one)


def test_threads_get_what_one_after_the_other_gets(photos, head):
    predictor = featstore.Predictor(head, backbone=CountingBackbone())
    paths = paths_of(photos) * 3
    one_by_one = [predictor.predict(path, top=2) for path in paths]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda path: predictor.predict(path, top=2), paths)) == one_by_one
        streams = pool.map(lambda start: list(predictor.stream(paths[start:], top=2)), range(0, 60, 7))
        assert [len(stream) for stream in streams] == [len(paths) - start for start in range(0, 60, 7)]
    picture = Image.open(paths[0])
    with ThreadPoolExecutor(16) as pool:
        found = {one.top for one in pool.map(lambda _: predictor.predict(picture, top=2), range(16))}
    assert found == {one_by_one[0].top}


def test_probabilities_do_not_depend_on_the_other_images(photos, head):
    predictor = featstore.Predictor(head, backbone=CountingBackbone(batch_size=32))
    paths = paths_of(photos)
    together = list(predictor.stream(paths, top=2))
    assert together == [predictor.predict(path, top=2) for path in paths]
    assert list(predictor.stream(paths[5:42], top=2)) == together[5:42]


def test_results_come_while_images_are_still_being_given(photos, head):
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield paths_of(photos)[len(drawn) % 80]

    backbone = CountingBackbone(batch_size=4)
    told = list(islice(featstore.predict(head, endless(), backbone=backbone, workers=2), 50))
    assert len(told) == 50
    assert len(drawn) < 100


@pytest.mark.parametrize("kind", ["broken", "known"])
def test_results_come_also_where_the_network_has_nothing_to_do(photos, head, tmp_path, kind):
    drawn = []

    def endless():
        while True:
            drawn.append(len(drawn))
            yield b"nothing" if kind == "broken" else paths_of(photos)[len(drawn) % 80]

    backbone = CountingBackbone(batch_size=4)
    options = {"store": tmp_path / "photos.fstore", "backbone": backbone, "workers": 2}
    told = list(islice(featstore.predict(head, endless(), **options), 500))
    assert {one.is_reused for one in told} == {kind == "known"}
    assert len(drawn) < 1000
    assert backbone.images == 0


def test_features_in_the_store_are_not_computed_again(photos, head, tmp_path):
    paths = paths_of(photos)
    new = [str(tmp_path / f"new{number}.png") for number in range(3)]
    for number, path in enumerate(new):
        pixels = np.random.default_rng(90 + number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    mixed = [*paths[:9], new[0], "missing.png", *paths[9:30], *new[1:], *paths[30:]]
    expected = list(featstore.predict(head, mixed, backbone=CountingBackbone(), top=2))

    backbone = CountingBackbone()
    found = list(featstore.predict(head, mixed, backbone=backbone, store=tmp_path / "photos.fstore", top=2))
    assert [one.to_dict() for one in found] == [one.to_dict() for one in expected]
    assert [one.path for one in found if not one.is_reused] == [new[0], "missing.png", *new[1:]]
    assert backbone.images == 3
    assert featstore.FeatureStore(tmp_path / "photos.fstore").space().n_rows == 80


def test_half_precision_features_are_the_same_computed_or_stored(photos, tmp_path):
    backbone = CountingBackbone(dtype="float16")
    featstore.extract(photos, tmp_path / "half.fstore", backbone=backbone)
    head = featstore.fit(featstore.FeatureStore(tmp_path / "half.fstore").table(), params={"C": 1.0})
    computed = list(featstore.predict(head, paths_of(photos), backbone=backbone))
    stored = list(
        featstore.predict(head, paths_of(photos), backbone=backbone, store=tmp_path / "half.fstore")
    )
    assert [one.to_dict() for one in stored] == [one.to_dict() for one in computed]


def test_a_store_of_other_features_is_of_no_use_and_no_harm(photos, head, tmp_path):
    featstore.extract(photos, tmp_path / "other.fstore", backbone=CountingBackbone(seed=1))
    backbone = CountingBackbone()
    told = list(featstore.predict(head, paths_of(photos), backbone=backbone, store=tmp_path / "other.fstore"))
    assert not any(one.is_reused for one in told)
    assert backbone.images == 80


@pytest.mark.parametrize("by", ["folder", "file", "object"])
def test_an_exported_model_labels_as_a_head_does(photos, tmp_path, by):
    folder = write_mean_model(tmp_path / "out")
    model = {"folder": folder, "file": folder / "model.onnx"}.get(by) or ExportedModel.load(folder)
    paths = [*paths_of(photos)[:50], "missing.png"]
    told = list(featstore.predict(model, paths, top=5))
    assert [one.label for one in told] == ["bright"] * 40 + ["dark"] * 10 + [None]
    assert told[-1].reason == "no such file"
    assert sum(probability for _, probability in told[0].top) == pytest.approx(1)


def test_an_exported_model_answers_unknown_as_it_was_told_to(photos, tmp_path):
    told = list(featstore.predict(write_mean_model(tmp_path / "out"), paths_of(photos)))
    border = sorted(one.probability for one in told)[40]
    careful = featstore.Predictor(write_mean_model(tmp_path / "careful", rejects_below=border))
    found = list(careful.stream(paths_of(photos)))
    assert [one.is_unknown for one in found] == [one.probability < border for one in told]
    assert not any(one.is_unknown for one in careful.stream(paths_of(photos), reject=0))


def test_an_exported_model_takes_nothing_that_only_a_head_has_a_use_for(tmp_path):
    with pytest.raises(ExportError, match="leave out: store, engine"):
        featstore.Predictor(write_mean_model(tmp_path / "out"), store=tmp_path, engine="openvino")


def test_a_head_beside_an_exported_model_is_a_head(head, tmp_path):
    head.save(write_mean_model(tmp_path / "out") / "a.head")
    predictor = featstore.Predictor(tmp_path / "out" / "a.head", backbone=CountingBackbone())
    assert isinstance(predictor.model, featstore.Head)
