"""Names of classes are compared in one Unicode form, wherever a user gives them."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest

from fake_tables import blobs, table_of
from featstore import edit_classes, evaluate, fit
from featstore.extending.naming import name_classes
from featstore.images.sources.opening import _catalog_name

NFC, NFD = (unicodedata.normalize(form, "gänseblümchen") for form in ("NFC", "NFD"))
X, Y = blobs(n=200)


def table_with(name):
    labels = Y.astype("U30")
    labels[labels == "class 0"] = name
    return table_of(X, labels)


def test_a_head_of_an_older_version_knows_labels_in_the_other_form():
    head = fit(table_with(NFD), head="ridge", params={"alpha": 1.0})
    assert NFD in head.classes
    one, other = (evaluate(head, table_with(name)) for name in (NFD, NFC))
    assert other.to_dict()["top1"] == one.to_dict()["top1"]
    assert head.labels_of(table_with(NFC)).tolist() == table_with(NFD).y.tolist()


def test_fit_warns_of_classes_that_look_alike(caplog):
    labels = Y.astype("U30")
    labels[labels == "class 0"] = "Class 1"
    fit(table_of(X, labels), head="ridge", params={"alpha": 1.0})
    assert "'Class 1' and 'class 1'" in caplog.text
    caplog.clear()
    fit(table_with("a"), head="ridge", params={"alpha": 1.0})
    assert "differ only" not in caplog.text


@pytest.mark.parametrize("form", [NFC, NFD])
def test_class_weights_may_be_in_any_form(form):
    wanted = fit(table_with(NFC), head="ridge", params={"alpha": 1.0}, class_weight={NFC: 9.0})
    head = fit(table_with(NFC), head="ridge", params={"alpha": 1.0}, class_weight={form: 9.0})
    np.testing.assert_array_equal(head.predict_proba(X), wanted.predict_proba(X))


@pytest.mark.parametrize("held", [NFC, NFD])
@pytest.mark.parametrize("given", [NFC, NFD])
def test_classes_are_renamed_and_removed_by_a_name_in_any_form(held, given):
    head = fit(table_with(held), head="ridge", params={"alpha": 1.0})
    assert "bellis" in edit_classes(head, rename={given: "bellis"}).classes
    assert edit_classes(head, remove=[given]).classes.tolist() == ["class 1", "class 2"]
    assert NFC in edit_classes(head, rename={"class 1": "x", given: NFD}).classes


@pytest.mark.parametrize("held", [NFC, NFD])
@pytest.mark.parametrize("given", [NFC, NFD])
def test_a_new_label_is_the_old_class_whatever_its_form(held, given):
    naming = name_classes([held, "x"], [NFC, "y"], same={given: given}, catalog="c")
    assert naming.classes.tolist() == sorted([held, "x", "y"])
    assert naming.same == {NFC: held}
    apart = name_classes([held, "x"], [NFC, "y"], same={}, catalog="c")
    assert apart.twins == {NFC: f"{NFC} (c)"}


def test_a_catalog_is_called_the_same_after_a_folder_in_either_form():
    assert _catalog_name(NFC) == _catalog_name(NFD)


def test_an_exact_name_goes_before_one_in_another_form():
    head = fit(table_with(NFD), head="ridge", params={"alpha": 1.0})
    both = replace(head, classes=np.array(sorted([NFC, NFD, "z"])))
    labels = table_of(X[:2], np.array([NFC, NFD]))
    assert both.labels_of(labels).tolist() == [NFC, NFD]
