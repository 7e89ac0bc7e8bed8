import numpy as np
import pytest

from featstore.heads import fit
from featstore.heads.fitting import held_out
from featstore.heads.fitting.held_out import evenly_spaced, most_kept


@pytest.fixture
def few_kept(monkeypatch):
    # As with so many classes that the scores of all held-out images would not fit into memory.
    monkeypatch.setattr(held_out, "_MOST_SCORES", 3 * 40)


@pytest.fixture
def blobs(make_table, make_blobs):
    return make_table(*make_blobs(n=600, n_classes=3, feature_dim=6, spread=2.5))


@pytest.mark.parametrize("name", ["logistic", "ridge", "sgd", "knn", "svm"])
def test_accuracies_are_those_of_all_images_however_few_scores_are_kept(blobs, name, few_kept, monkeypatch):
    params = {"max_iter": 3} if name == "sgd" else None
    few = fit(blobs, head=name, params=params, reject=0.5)
    monkeypatch.undo()
    # Chosen by fewer images: the choice may be another.
    swept = fit(blobs, head=name, params=params)
    all_kept = fit(blobs, head=name, reject=0.5, params=few.params)

    assert [one["top1"] for one in few.sweep] == [one["top1"] for one in swept.sweep]
    assert (few.validation, few.test) == (all_kept.validation, all_kept.test)
    assert all_kept.reject["test"]["n"] == all_kept.test["n"] > few.reject["test"]["n"] == 40


def test_a_temperature_of_few_images_is_near_that_of_all(blobs, few_kept, monkeypatch):
    few = fit(blobs, head="ridge")
    monkeypatch.undo()
    all_kept = fit(blobs, head="ridge")

    assert few.temperature != all_kept.temperature
    assert few.temperature == pytest.approx(all_kept.temperature, rel=0.5)


def test_the_scores_of_many_classes_are_kept_of_fewer_images():
    assert most_kept(1000) == 16_777
    assert most_kept(1000, n_views=8) == 2_097
    assert most_kept(2**25) == 1


def test_chosen_images_are_spread_over_all():
    assert evenly_spaced(0, 5).tolist() == []
    assert evenly_spaced(4, 5).tolist() == [0, 1, 2, 3]
    chosen = evenly_spaced(10_001, 101)
    assert len(chosen) == 101
    np.testing.assert_array_equal(np.diff(chosen), 100)
