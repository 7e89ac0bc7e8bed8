"""A tiny network and small photos, extracted and fitted once."""

import shutil

import pytest

import featstore
from featstore import FeatureStore, SplitRule
from tuning_material import draw, small_network


@pytest.fixture(scope="session")
def keras():
    from featstore.backbones.keras import models as keras_models

    return keras_models.keras


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, keras):
    """A folder with photos, a network's weights, a store of its features and a linear head on them."""
    folder = tmp_path_factory.mktemp("tuning")
    photos = draw(folder / "photos")
    keras.utils.set_random_seed(2)
    small_network(keras).save(folder / "small.keras")
    store = folder / "photos.fstore"
    featstore.extract(photos, store, backbone=folder / "small.keras", preprocess="tf", engine="keras")
    table = FeatureStore(store).table()
    rule = SplitRule(validation=0.2, test=0.2)
    head = featstore.fit(table, params={"C": 1.0}, rule=rule, refit=False)
    head.save(FeatureStore(store).head_path("probe"))
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """A copy of the prepared store, in a folder of the test's own, beside which results are written."""
    shutil.copytree(prepared / "photos.fstore", tmp_path / "photos.fstore")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store(here):
    return FeatureStore(here / "photos.fstore")


@pytest.fixture
def table(store):
    return store.table()


@pytest.fixture
def probe(store):
    return featstore.Head.load(store.head_path("probe"))


@pytest.fixture
def tune(probe, table, here, monkeypatch):
    """Tune in short, from a middle layer; take the last epoch unless told to choose."""

    def run(head=None, on=None, *, chooses=False, **options):
        with monkeypatch.context() as patch:
            if not chooses:
                patch.setattr("featstore.tuning.training._is_better", lambda *entries: True)
            return tuned(head, on, **options)

    def tuned(head, on, **options):
        settings = {"output": here / "tuned", "from_layer": "block", "engine": "keras"}
        settings |= {"epochs": 2, "batch_size": 16, "learning_rate": 0.02}
        return featstore.finetune(head or probe, on or table, **(settings | options))

    return run
