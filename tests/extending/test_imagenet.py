import re
from importlib.resources import files
from pathlib import Path

import pytest

from featstore.extending.imagenet import imagenet_classes

TABLE = files("featstore.extending").joinpath("imagenet_classes.tsv").read_text(encoding="utf-8")
IDS = [line.split("\t")[0] for line in TABLE.splitlines()]
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "imagenet_samples"


def test_there_are_a_thousand_names_all_different():
    assert len(set(imagenet_classes())) == len(imagenet_classes()) == 1000
    assert all(re.fullmatch(r"[A-Za-z'()_-]+", name) for name in imagenet_classes())


def test_the_order_is_that_of_the_ids():
    assert sorted(set(IDS)) == IDS
    assert len(IDS) == 1000


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "tench"),
        (134, "crane_(bird)"),
        (264, "Cardigan"),
        (474, "cardigan"),
        (517, "crane_(machine)"),
        (638, "maillot_(tights)"),
        (639, "maillot_(tank_suit)"),
        (985, "daisy"),
        (999, "toilet_tissue"),
    ],
)
def test_names_are_in_keras_order_and_alike_ones_distinguished(number, name):
    assert imagenet_classes()[number] == name


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the ImageNet samples beside the checkout")
def test_names_and_ids_are_those_of_the_sample_photos():
    photos = sorted(path.stem.split("_", 2) for path in SAMPLES.glob("*.JPEG"))
    assert len(photos) == 300
    for number, wordnet_id, name in photos:
        assert IDS[int(number)] == wordnet_id
        assert imagenet_classes()[int(number)].split("_(")[0] == name
