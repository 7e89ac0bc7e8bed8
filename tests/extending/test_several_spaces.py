"""New classes that see more features than the old head does."""

import json
import zipfile

import numpy as np
import pytest

import featstore
from fake_tables import spec_of
from featstore.backbones.spec import JoinedSpec
from featstore.errors import FingerprintMismatchError, HeadError
from featstore.extending.new_classifier import NewClassifier
from featstore.extending.samples import Samples
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

from .gaussians import DIM, NEW, OLD, further_old, new_photos, old_head, photos

SPECS = (spec_of("other"), spec_of())
MORE = 5


def wide(table, specs=SPECS):
    """The same images with features of another space beside them, before or after."""
    other = table.X[:, :MORE] ** 3 + 1
    parts = {specs[0]: other, specs[1]: table.X} if specs == SPECS else {specs[0]: table.X, specs[1]: other}
    X = np.concatenate([*parts.values()], axis=1)
    dims = tuple(part.shape[1] for part in parts.values())
    return table.but(X=X, spec=JoinedSpec(specs), dims=dims, weights=("a", "b"))


@pytest.fixture(scope="module")
def old():
    return old_head(params={"C": 0.1})


@pytest.fixture(scope="module")
def by_kernel(old):
    return featstore.extend(old, wide(new_photos()), head="rbf", old_table=wide(further_old()))


def test_the_old_head_keeps_its_own_features(by_kernel, old):
    X = photos(OLD, 5, seed=9).X
    at = np.isin(by_kernel.classes, OLD)
    scores = by_kernel.scores(wide(photos(OLD, 5, seed=9)).X)[:, at]
    np.testing.assert_allclose(scores, old.scores(X) / (old.temperature or 1.0))
    assert by_kernel.gated.old_columns.tolist() == [*range(MORE, MORE + DIM)]
    assert by_kernel.gated.neighbors.shape[1] == DIM


def test_the_new_classes_see_all_block_by_block(by_kernel):
    new = by_kernel.gated.new
    assert isinstance(new, KernelForm)
    assert new.feature_dim == MORE + DIM
    # The same as a fit on a table that knows its spaces, in a fold too.
    classifier = NewClassifier(
        alone=featstore.fit(wide(new_photos()), head="rbf", params={"gamma": 1.0, "alpha": 1e-3}),
        known=list(NEW),
        n_new=0,
        dims=(MORE, DIM),
    )
    fitted = wide(new_photos())
    samples = Samples(X=fitted.X, y=np.searchsorted(NEW, fitted.y), folds=np.zeros(len(fitted), np.intp))
    again = featstore.fit(
        fitted,
        head="rbf",
        params={"gamma": 1.0, "alpha": 1e-3},
        rule=featstore.SplitRule(test=0, validation=0),
    )
    np.testing.assert_allclose(classifier.fit(samples).weight, again.kernel.weight)
    for labels in (OLD, NEW):
        table = wide(photos(labels, 10, seed=9))
        assert (by_kernel.predict(table.X) == table.y).mean() > 0.85


@pytest.mark.parametrize(("name", "kind"), [("svm", LinearForm), ("mlp", NetworkForm)])
def test_other_heads_serve_the_new_classes(old, name, kind):
    head = featstore.extend(
        old,
        wide(new_photos(), specs=SPECS[::-1]),
        head=name,
        old_table=wide(further_old(), specs=SPECS[::-1]),
    )
    assert isinstance(head.gated.new, kind)
    assert head.gated.old_columns.tolist() == [*range(DIM)]
    table = wide(photos(NEW, 10, seed=8), specs=SPECS[::-1])
    assert (head.predict(table.X) == table.y).mean() > 0.85


def test_a_saved_head_is_the_same_and_is_extended_again(by_kernel, tmp_path):
    by_kernel.save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        assert json.loads(archive.read("manifest.json"))["format_version"] == 7
    read = featstore.Head.load(tmp_path / "a.head")
    X = wide(photos(OLD + NEW, 5, seed=8)).X
    np.testing.assert_array_equal(read.predict_proba(X), by_kernel.predict_proba(X))
    again = featstore.extend(read, wide(photos(("newer 0", "newer 1"), 30, seed=5, catalog="more")))
    assert len(again.classes) == len(read.classes) + 2
    assert again.gated.old_columns is None


def test_the_same_extension_has_the_same_bits(by_kernel, old):
    again = featstore.extend(old, wide(new_photos()), head="rbf", old_table=wide(further_old()), jobs=2)
    X = wide(photos(OLD + NEW, 5, seed=8)).X
    np.testing.assert_array_equal(again.predict_proba(X), by_kernel.predict_proba(X))


def test_heads_of_linear_classifiers_are_written_for_earlier_versions_too(old, tmp_path):
    featstore.extend(old, new_photos(), old_table=further_old()).save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        assert json.loads(archive.read("manifest.json"))["format_version"] == 4


def test_mistakes_are_named(old):
    new = wide(new_photos())
    with pytest.raises(HeadError, match="columns adds columns to the old head, which sees scattering-"):
        featstore.extend(old, new, method="columns")
    with pytest.raises(HeadError, match="columns has no head of the new classes; rbf is for the method gate"):
        featstore.extend(old, new_photos(), method="columns", head="rbf")
    with pytest.raises(HeadError, match="knn cannot stand behind a gate"):
        featstore.extend(old, new_photos(), head="knn", old_table=further_old())
    with pytest.raises(FingerprintMismatchError, match="both must be in the same spaces"):
        featstore.extend(old, new, old_table=further_old())
    with pytest.raises(FingerprintMismatchError, match="was fitted on features of"):
        featstore.extend(old, new_photos().but(spec=JoinedSpec((spec_of("fern"), SPECS[0])), dims=(6, 6)))
