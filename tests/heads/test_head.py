import errno
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

import featstore.io.hdf5.raw
from featstore.errors import (
    FeatstoreError,
    FingerprintMismatchError,
    FormatVersionError,
    HeadError,
    StoreError,
    UntrustedTypeError,
)
from featstore.heads import Head, fit


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


PARAMS = {
    "centroid": None,
    "lda": {"shrinkage": 0.3},
    "logistic": {"C": 0.1},
    "ridge": {"alpha": 10.0},
    "sgd": {"alpha": 0.001, "max_iter": 3},
    "softmax": {"alpha": 0.01, "steps": 40},
    "svm": {"C": 0.1},
}


@pytest.fixture(params=list(PARAMS))
def head(request, table):
    return fit(table, head=request.param, params=PARAMS[request.param])


@pytest.fixture
def logistic(table):
    return fit(table, params={"C": 0.1})


@pytest.fixture
def saved(logistic, tmp_path):
    path = tmp_path / "logistic.head"
    logistic.save(path)
    return path


def rewritten(path, *, manifest=None, estimator=None, linear=None, compression=zipfile.ZIP_STORED):
    """The same head file with another member; the linear form is left out where none is given."""
    with zipfile.ZipFile(path) as archive:
        values = json.loads(archive.read("manifest.json"))
        data = archive.read("estimator.skops")
    with zipfile.ZipFile(path, "w", compression=compression) as archive:
        archive.writestr("manifest.json", json.dumps(values | (manifest or {})))
        archive.writestr("estimator.skops", data if estimator is None else estimator)
        if linear is not None:
            archive.writestr("linear.npz", linear)
    return path


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_a_head_comes_back_as_it_was_saved(head, table, tmp_path):
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")

    np.testing.assert_array_equal(loaded.predict_proba(table.X), head.predict_proba(table.X))
    assert loaded.to_dict() == head.to_dict()
    assert loaded.classes.tolist() == head.classes.tolist()
    assert os.listdir(tmp_path) == ["a.head"]


def test_saving_replaces_the_head_that_was_there(saved, table):
    fit(table, head="svm", params={"C": 1.0}).save(saved, overwrite=True)

    assert Head.load(saved).name == "svm"


def test_a_new_process_predicts_the_same_without_tensorflow(head, table, tmp_path):
    head.save(tmp_path / "a.head")
    np.save(tmp_path / "X.npy", table.X)
    code = (
        "import sys, numpy as np, featstore\n"
        "head = featstore.Head.load(sys.argv[1])\n"
        "np.save(sys.argv[3], head.predict_proba(np.load(sys.argv[2])))\n"
        "print({'tensorflow', 'keras', 'openvino', 'torch'} & set(sys.modules))"
    )
    arguments = [str(tmp_path / name) for name in ("a.head", "X.npy", "probabilities.npy")]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "set()"
    np.testing.assert_array_equal(np.load(arguments[2]), head.predict_proba(table.X))


def test_a_linear_head_predicts_without_scikit_learn(head, table, tmp_path):
    head.save(tmp_path / "a.head")
    np.save(tmp_path / "X.npy", table.X)
    code = (
        "import sys, numpy as np, featstore\n"
        "head = featstore.Head.load(sys.argv[1])\n"
        "head.predict(np.load(sys.argv[2])), head.top(np.load(sys.argv[2]))\n"
        "print({'sklearn', 'skops', 'scipy', 'joblib'} & set(sys.modules))"
    )
    arguments = [str(tmp_path / name) for name in ("a.head", "X.npy")]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "set()"


def test_the_estimator_of_a_loaded_head_says_the_same_as_the_head(head, table, tmp_path):
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")

    np.testing.assert_array_equal(loaded.estimator.predict(table.X), loaded.predict(table.X))
    np.testing.assert_array_equal(loaded.estimator.classes_, loaded.classes)


def test_a_loaded_head_can_be_sent_to_another_process(head, table, tmp_path):
    head.save(tmp_path / "a.head")
    sent = pickle.loads(pickle.dumps(Head.load(tmp_path / "a.head")))

    np.testing.assert_array_equal(sent.predict_proba(table.X), head.predict_proba(table.X))
    np.testing.assert_array_equal(sent.estimator.predict(table.X), head.predict(table.X))


@pytest.mark.parametrize(
    ("linear", "message"),
    [
        (b"no archive", "linear.npz cannot be read"),
        (npz(coef=np.zeros((3, 12))), "unexpected arrays of a linear classifier: coef"),
        (
            npz(coef=np.zeros((3, 12)), intercept=np.zeros(3), more=np.zeros(3)),
            "unexpected arrays of a linear classifier: coef, intercept, more",
        ),
        (npz(coef=np.zeros((3, 11)), intercept=np.zeros(3)), "does not match"),
        (npz(coef=np.zeros((3, 12)), intercept=np.zeros(2)), "inconsistent shapes"),
        (
            npz(coef=np.zeros((3, 12)), intercept=np.zeros(3), mean=np.zeros(12)),
            "inconsistent shapes",
        ),
        (npz(coef=np.full((3, 12), np.nan), intercept=np.zeros(3)), "finite float64"),
        (npz(coef=np.zeros((3, 12), np.float32), intercept=np.zeros(3)), "finite float64"),
        (npz(coef=np.array([Trap()]), intercept=np.zeros(3)), "linear.npz cannot be read"),
    ],
)
def test_an_invalid_linear_form_is_refused(saved, linear, message):
    rewritten(saved, linear=linear)
    with pytest.raises(HeadError, match=message):
        Head.load(saved)


def test_our_own_heads_need_no_trust_and_hold_no_pickle(head, tmp_path, caplog):
    import skops.io

    head.save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        data = archive.read("estimator.skops")

    assert skops.io.get_untrusted_types(data=data) == []
    assert not caplog.records
    assert b"pickle" not in data


def test_labels_of_any_text_survive(make_table, make_blobs, tmp_path):
    X, y = make_blobs()
    names = {"class 0": "Gänseblümchen", "class 1": os.fsdecode(b"ros\xe9"), "class 2": "a/b\n"}
    head = fit(make_table(X, np.array([names[label] for label in y])), params={"C": 0.1})
    head.save(tmp_path / "a.head")

    assert Head.load(tmp_path / "a.head").classes.tolist() == sorted(names.values())


def test_predictions_do_not_depend_on_the_size_of_blocks(head, table, monkeypatch):
    whole = head.predict_proba(table.X)
    monkeypatch.setattr("featstore.heads.classifier._BLOCK_ROWS", 7)

    np.testing.assert_allclose(head.predict_proba(table.X), whole, rtol=1e-5)
    assert len(head.predict(table.X)) == 240


def test_no_rows_give_no_predictions(head):
    empty = np.empty((0, 12), dtype=np.float32)

    assert head.predict(empty).shape == (0,)
    assert head.predict_proba(empty).shape == (0, 3)
    assert head.top(empty, 2)[0].shape == (0, 2)


def test_the_top_labels_begin_with_the_prediction(head, table):
    labels, probabilities = head.top(table.X, 2)

    np.testing.assert_array_equal(labels[:, 0], head.predict(table.X))
    assert labels.shape == probabilities.shape == (240, 2)
    assert (probabilities[:, 0] >= probabilities[:, 1]).all()


def test_asking_for_more_labels_than_there_are_gives_all(head, table):
    labels, probabilities = head.top(table.X[:1], 10)

    assert sorted(labels[0]) == head.classes.tolist()
    assert probabilities.sum() == pytest.approx(1)


def test_plain_lists_and_half_precision_can_be_predicted(head, table):
    half = table.X.astype(np.float16)

    np.testing.assert_array_equal(head.predict(half), head.predict(half.astype(np.float32)))
    np.testing.assert_array_equal(head.predict(table.X.tolist()), head.predict(table.X.astype(np.float64)))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 11), dtype=np.float32), r"shape \(n, 12\); found \(3, 11\)"),
        (np.zeros(12, dtype=np.float32), r"found \(12,\)"),
        (np.full((2, 12), np.inf), "2 of 2 rows"),
        (np.full((2, 12), "a"), "features must be numbers"),
    ],
)
def test_invalid_features_are_refused(head, X, message):
    with pytest.raises(HeadError, match=message):
        head.predict(X)
    with pytest.raises(HeadError, match=message):
        head.predict_proba(X)


def test_a_top_of_none_is_refused(head, table):
    with pytest.raises(HeadError, match="at least 1; found 0"):
        head.top(table.X, 0)


def test_the_own_fingerprint_passes(logistic, table):
    logistic.check_fingerprint(table.fingerprint)


def test_another_spec_is_refused_with_what_differs(logistic, make_spec):
    other = make_spec(size_px=(64, 64), weights_digest="f" * 64)
    with pytest.raises(FingerprintMismatchError) as caught:
        logistic.check_fingerprint(other.fingerprint, spec=other)

    assert "size_px is [96, 96] in the head and [64, 64] here" in str(caught.value)
    assert "weights_digest is 000000000000 in the head and ffffffffffff here" in str(caught.value)
    assert "pooling" not in str(caught.value)


def test_another_fingerprint_alone_is_refused(logistic):
    with pytest.raises(FingerprintMismatchError, match="found the fingerprint abcabcabcabc;"):
        logistic.check_fingerprint("abc" * 21 + "a")


def test_a_report_has_stable_keys(logistic):
    found = json.loads(json.dumps(logistic.to_dict()))

    assert {"head", "space", "catalog", "classes", "n_train", "n_validation", "n_test", "params"} <= set(
        found
    )
    assert set(found["test"]) == set(found["validation"]) == {"n", "top1", "top1_ci"}
    assert found["n_train"] + found["n_validation"] + found["n_test"] == 240
    assert set(found["versions"]) == {"featstore", "numpy", "scikit-learn", "skops"}


def test_a_newer_format_is_refused(saved):
    rewritten(saved, manifest={"format_version": 9})
    with pytest.raises(FormatVersionError, match=r"has format version 9, .* upgrade featstore"):
        Head.load(saved)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": "other"}, "not a head file"),
        ({"format_version": "1"}, "not a head file"),
        ({"classes": ["a", 3]}, "invalid classes"),
        ({"classes": ["class 0", "class 1", "daisy"], "held_out": {}}, "does not match"),
        ({"feature_dim": "12"}, "invalid feature_dim"),
        ({"feature_dim": 13}, "do not match"),
        ({"feature_dim": True}, "invalid feature_dim"),
        ({"temperature": 0.0}, "invalid temperature"),
        ({"counts": {"train": {}}}, "invalid counts"),
        ({"test": {"n": 3}}, "invalid test"),
        ({"fingerprint": "0" * 64}, "fingerprint is not that of"),
        ({"spec": {"architecture": "vgg16"}}, "specification is incomplete"),
        ({"split_rule": {"test": 3}}, "test must be a fraction"),
        ({"choice": {"by": "folds"}}, "invalid choice"),
        ({"seed": "0"}, "invalid seed"),
        ({"test_views": 0}, "invalid test_views"),
        ({"test_views": 2**17}, "invalid test_views"),
        ({"train_views": True}, "invalid train_views"),
        ({"weights": ["a.h5", 3]}, "invalid weights"),
        ({"spec": {"parts": []}}, "two or more different backbones"),
        ({"spec": {"parts": 3}}, "has parts and nothing else"),
        ({"reject": {"below": 2}}, "invalid reject"),
        ({"held_out": {"class 0": [0.5]}}, "invalid held_out"),
        ({"held_out": {f"class {n}": [0.5, 0.4] for n in range(3)}}, "invalid held_out"),
        ({"held_out": {f"class {n}": [2] for n in range(3)}}, "invalid held_out"),
    ],
)
def test_an_invalid_manifest_is_refused(saved, manifest, message):
    rewritten(saved, manifest=manifest)
    with pytest.raises(HeadError, match=message):
        Head.load(saved)


def test_a_head_of_format_version_1_still_loads(saved, table):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"]) | {"format_version": 1}
    for name in ("choice", "seed", "reject"):
        del manifest[name]
    with zipfile.ZipFile(saved, "w") as archive:
        for name, data in {**members, "manifest.json": json.dumps(manifest)}.items():
            archive.writestr(name, data)
    loaded = Head.load(saved)

    assert (loaded.seed, loaded.reject, loaded.rejects_below) == (0, None, 0)
    assert loaded.choice == {"by": None, "folds": None, "n": 0, "top1": None, "fitted_on": ["train"]}
    assert len(loaded.predict(table.X)) == 240


def test_a_missing_field_is_named(saved):
    with zipfile.ZipFile(saved) as archive:
        values = json.loads(archive.read("manifest.json"))
        data = archive.read("estimator.skops")
    del values["spec"]
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("manifest.json", json.dumps(values))
        archive.writestr("estimator.skops", data)

    with pytest.raises(HeadError, match=r"manifest\.json lacks spec"):
        Head.load(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a head file"),
        (b"a text file\n", "not a head file"),
        (pickle.dumps(Trap()), r"is a pickle: .* featstore\.fit\(table, head=joblib\.load\(path\)\)"),
        (b"PK\x05\x06" + bytes(18), "not a head file"),
    ],
)
def test_other_files_are_refused_and_never_run(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.head").write_bytes(content)
    with pytest.raises(HeadError, match=message):
        Head.load("a.head")

    assert not (tmp_path / "sprung").exists()


def test_a_pickle_in_the_place_of_the_estimator_is_refused(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rewritten(saved, estimator=pickle.dumps(Trap()))
    with pytest.raises(HeadError, match="its estimator cannot be read"):
        Head.load(saved)

    assert not (tmp_path / "sprung").exists()


def test_something_else_than_a_classifier_is_refused(saved):
    import skops.io

    rewritten(saved, estimator=skops.io.dumps({"classes_": [1, 2]}))
    with pytest.raises(HeadError, match="does not match"):
        Head.load(saved)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(HeadError, match="there is no head file"):
        Head.load(tmp_path / "none.head")
    with pytest.raises(HeadError, match="cannot be read: Is a directory"):
        Head.load(tmp_path)


@pytest.mark.parametrize("number", range(1, 5))
def test_a_read_that_is_refused_is_no_damage(saved, monkeypatch, number):
    real, count = featstore.io.hdf5.raw._read_at, 0

    def read(descriptor, view, position):
        nonlocal count
        count += 1
        if count == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, view, position)

    monkeypatch.setattr(featstore.io.hdf5.raw, "_read_at", read)
    with pytest.raises(HeadError, match=f"logistic.head cannot be read: {os.strerror(errno.EIO)}"):
        Head.load(saved)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.head")
    with pytest.raises(HeadError, match="nor any regular file"):
        Head.load(tmp_path / "pipe.head")


def test_compressed_members_are_refused(saved):
    rewritten(saved, estimator=bytes(10_000_000), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(HeadError, match="is compressed or encrypted"):
        Head.load(saved)


def test_a_compressed_estimator_is_refused(logistic, saved):
    import skops.io

    rewritten(saved, estimator=skops.io.dumps(logistic.estimator, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(HeadError, match="is compressed or encrypted"):
        Head.load(saved)


def test_a_further_member_is_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.comment = b""
        archive.writestr("more.txt", "more")
    with pytest.raises(HeadError, match="and nothing else"):
        Head.load(saved)


@given(st.data())
@settings(max_examples=60)
def test_a_damaged_file_is_an_error_of_ours_or_harmless(saved, data):
    whole = saved.read_bytes()
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        damaged[at] = data.draw(st.integers(0, 255))
    path = saved.with_name("damaged.head")
    path.write_bytes(
        damaged[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else damaged
    )
    with suppress(FeatstoreError):
        assert Head.load(path).name


def test_unknown_types_are_refused_by_name_unless_trusted(table, tmp_path, caplog):
    head = fit(table, head=RandomForestClassifier(5, random_state=0))
    head.save(tmp_path / "forest.head")
    assert "loading this head will need trusted=['sklearn.tree._tree.Tree']" in caplog.text

    with pytest.raises(UntrustedTypeError, match=r"load it with trusted=\['sklearn.tree._tree.Tree'\]"):
        Head.load(tmp_path / "forest.head")
    loaded = Head.load(tmp_path / "forest.head", trusted=["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(loaded.predict_proba(table.X), head.predict_proba(table.X))


def test_a_kernel_machine_is_refused_by_name_unless_trusted(table, tmp_path):
    head = fit(table, head=SVC(probability=False))
    head.save(tmp_path / "svc.head")

    with pytest.raises(UntrustedTypeError, match=r"load it with trusted=\['sklearn.svm._classes.SVC'\]"):
        Head.load(tmp_path / "svc.head")
    loaded = Head.load(tmp_path / "svc.head", trusted=["sklearn.svm._classes.SVC"])
    np.testing.assert_array_equal(loaded.predict_proba(table.X), head.predict_proba(table.X))


def test_types_can_be_trusted_as_they_are(table, tmp_path):
    from sklearn.metrics._dist_metrics import EuclideanDistance64
    from sklearn.neighbors import KDTree

    fit(table, head=KNeighborsClassifier()).save(tmp_path / "knn.head")

    assert (
        Head.load(tmp_path / "knn.head", trusted=[KDTree, EuclideanDistance64]).name == "kneighborsclassifier"
    )


def test_another_version_of_scikit_learn_is_warned_about(logistic, tmp_path, monkeypatch, caplog):
    versions = logistic.versions | {"scikit-learn": "1.0"}
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.0")
        replace(logistic, versions=versions).save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    assert not caplog.records
    loaded.estimator  # noqa: B018

    assert "was written with scikit-learn 1.0" in caplog.text


def test_a_folder_that_is_not_there_is_named(logistic, tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        logistic.save(tmp_path / "nowhere" / "a.head")


def test_a_failed_save_leaves_the_old_head(logistic, saved, monkeypatch):
    before = saved.read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="no space left"):
        logistic.save(saved, overwrite=True)

    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_an_estimator_that_skops_cannot_write_is_refused(logistic, tmp_path):
    with pytest.raises(HeadError, match="generator cannot be saved without pickle"):
        replace(logistic, load_estimator=lambda: (number for number in range(3))).save(tmp_path / "a.head")

    assert not os.listdir(tmp_path)


def test_a_head_introduces_itself(logistic):
    assert repr(logistic) == f"<Head logistic: 3 classes on {logistic.space}>"
