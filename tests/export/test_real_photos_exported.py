"""A real network on real photos, where they lie beside the checkout."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import featstore

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEIGHTS = DATA / "weights" / "mobilenet_v2_1.0_224_no_top.h5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the real photos and weights beside the checkout"),
]


def test_a_network_on_photos_is_the_same_in_onnx(real_features, tmp_path):
    for label in ("daisy", "tulips"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for photo in sorted((DATA / "flowers" / label).iterdir())[:60]:
            shutil.copy(photo, tmp_path / "flowers" / label)
    store = shutil.copytree(real_features, tmp_path / "flowers.fstore")
    featstore.extract(tmp_path / "flowers", store, backbone="mobilenet_v2", weights=WEIGHTS)
    table = featstore.FeatureStore(store).table()
    head = featstore.fit(table, head="svm", params={"C": 1.0})
    model = featstore.export_head(head, tmp_path / "out", format="onnx", table=table)
    told = model.description.verification
    assert (told["n"], told["n_lost"], told["top1_agreement"]) == (head.test["n"], 0, 1.0)
    assert told["largest_difference"] < 1e-4


def test_two_networks_on_photos_and_their_mirror_images_are_the_same_stored_computed_and_exported(tmp_path):
    for label in ("daisy", "tulips"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for photo in sorted((DATA / "flowers" / label).iterdir())[:40]:
            shutil.copy(photo, tmp_path / "flowers" / label)
    store = featstore.FeatureStore(tmp_path / "flowers.fstore", create=True)
    flips = {"views": featstore.ViewRecipe(flip=True), "n_views": 2}
    small = {"backbone": "mobilenet", "alpha": 0.25, "weights": DATA / "weights/mobilenet_0.25_224_no_top.h5"}
    spaces = [
        featstore.extract(
            tmp_path / "flowers", store, backbone="mobilenet_v2", weights=WEIGHTS, **flips
        ).space,
        featstore.extract(tmp_path / "flowers", store, **small, **flips).space,
    ]
    table = store.table(space=spaces)
    head = replace(featstore.fit(table, params={"C": 0.01}), test_views=2)
    photos = table.paths[::16].tolist()
    stored = [one.probability for one in featstore.predict(head, photos, store=store)]
    computed = [one.probability for one in featstore.predict(head, photos)]
    np.testing.assert_allclose(computed, stored, atol=1e-6)

    model = featstore.export_head(head, tmp_path / "out", format="onnx", table=table)
    told = model.description.verification
    assert (told["n"], told["n_lost"], told["top1_agreement"]) == (head.test["n"], 0, 1.0)
    assert told["largest_difference"] < 1e-4
