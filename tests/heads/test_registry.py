import subprocess
import sys

import pytest

from featstore.errors import UnknownHeadError
from featstore.heads import find_head, known_heads


@pytest.mark.parametrize("info", known_heads(), ids=lambda info: info.name)
def test_a_head_is_made_anew_with_every_setting_it_names(info):
    first, second = info.make(), info.make()
    settings = {*first[-1].get_params()}
    if info.name == "lda":
        # Its class weights are priors.
        settings.add("class_weight")

    assert first is not second
    assert set(info.settings) <= settings
    assert set(info.grid) <= set(info.settings)


@pytest.mark.parametrize("info", known_heads(), ids=lambda info: info.name)
def test_a_grid_begins_with_the_most_regularised(info):
    is_more = {"C": False, "alpha": True, "n_neighbors": True, "shrinkage": True}
    for name, values in info.grid.items():
        if name in is_more:
            assert list(values) == sorted(values, reverse=is_more[name])
    assert "\n" not in info.summary


def test_an_unknown_name_is_answered_with_the_known_ones():
    known = "centroid, knn, lda, logistic, mlp, rbf, ridge, sgd, softmax, svm"
    with pytest.raises(UnknownHeadError, match=rf"no head 'logistics'; the heads are {known}; .*logistic\?"):
        find_head("logistics")


def test_listing_heads_imports_no_scikit_learn():
    code = "import sys, featstore; featstore.known_heads(); print('sklearn' in sys.modules, 'scipy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["False", "False"]
