"""A real network on real photos, where they lie beside the checkout."""

import shutil
from pathlib import Path

import pytest

import featstore

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEIGHTS = DATA / "weights" / "mobilenet_v2_1.0_224_no_top.h5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs the real photos and weights beside the checkout"),
]


def test_a_network_on_photos_is_the_same_in_onnx(tmp_path):
    for label in ("daisy", "tulips"):
        (tmp_path / "flowers" / label).mkdir(parents=True)
        for photo in sorted((DATA / "flowers" / label).iterdir())[:60]:
            shutil.copy(photo, tmp_path / "flowers" / label)
    store = tmp_path / "flowers.fstore"
    featstore.extract(tmp_path / "flowers", store, backbone="mobilenet_v2", weights=WEIGHTS)
    table = featstore.FeatureStore(store).table()
    head = featstore.fit(table, head="svm", params={"C": 1.0})
    model = featstore.export_head(head, tmp_path / "out", format="onnx", table=table)
    told = model.description.verification
    assert (told["n"], told["n_lost"], told["top1_agreement"]) == (head.test["n"], 0, 1.0)
    assert told["largest_difference"] < 1e-4
