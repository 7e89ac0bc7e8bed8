"""The head ``rbf``: kernel ridge regression, exact and on landmarks."""

import io
import json
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featstore.errors import HeadError
from featstore.extending import edit_classes, extend
from featstore.heads import Head, fit
from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.fitting import sweep
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.solvers import kernel
from featstore.heads.solvers.kernel import KernelTask, fold_scores, kernel_path

SETTING = {"gamma": 1.0, "alpha": 1e-3}


def task_of(X, codes, *, dims=None, weights=None, landmarks=None):
    n_classes = int(codes.max()) + 1
    return KernelTask(
        X=Rows(ArrayTable(X, dims), np.arange(len(X)), name="X"),
        codes=codes,
        weights=(np.ones(n_classes) if weights is None else weights)[codes],
        n_classes=n_classes,
        landmarks=landmarks,
    )


def random_task(n, dim, *, seed=0, **options):
    generator = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    X = generator.normal(size=(n, dim)) + codes[:, None]
    return task_of(X.astype(np.float32), codes, **options), X.astype(np.float32)


@pytest.fixture
def hard(make_table, make_blobs):
    return make_table(*make_blobs(n=300, n_classes=3, feature_dim=12, spread=1.2))


def test_scores_are_those_of_the_textbook():
    task, X = random_task(60, 7, dims=(5, 2))
    X = np.asarray(X, np.float64)
    roots = np.sign(X) * np.sqrt(np.abs(X))
    Z = (roots - roots.mean(axis=0)) / roots.std(axis=0) / np.sqrt(2 * np.repeat([5, 2], [5, 2]))
    d2 = ((Z[:, None] - Z) ** 2).sum(axis=2)
    K = np.exp(-d2 / (d2.sum() / (60 * 59))) + 1
    wanted = K @ np.linalg.solve(K + 1e-3 * 60 * np.eye(60), np.eye(3)[task.codes])
    [form] = kernel_path(task, [SETTING])

    # Rows are stored in half precision.
    np.testing.assert_allclose(form.scores(X), wanted, atol=2e-3)


@settings(max_examples=30)
@given(
    n=st.integers(12, 40),
    n_folds=st.integers(2, 12),
    alpha=st.sampled_from([1e-5, 1e-3, 0.1]),
    weights=st.sampled_from([None, (1.0, 3.0, 0.2)]),
    seed=st.integers(0, 1000),
)
def test_folds_in_closed_form_are_refits(n, n_folds, alpha, weights, seed):
    task, _ = random_task(n, 4, seed=seed, weights=None if weights is None else np.array(weights))
    numbers = np.arange(n) if n_folds == 12 else np.random.default_rng(seed).integers(0, n_folds, n)
    folds = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    setting = {"gamma": 0.7, "alpha": alpha}
    [whole] = kernel_path(task, [setting])
    [found] = fold_scores(task, [setting], folds)
    rows = whole.rows.astype(np.float64)
    K = np.exp(-float(whole.gamma) * ((rows[:, None] - rows) ** 2).sum(axis=2)) + 1
    ridge, targets = np.diag(task.ridge(alpha)), np.eye(3)[task.codes]
    for held_out, scores in zip(folds, found, strict=True):
        rest = np.setdiff1d(np.arange(n), held_out)
        coef = np.linalg.solve((K + ridge)[np.ix_(rest, rest)], targets[rest])
        np.testing.assert_allclose(scores, K[np.ix_(held_out, rest)] @ coef, atol=1e-6)


def test_a_fold_of_a_single_image_is_leave_one_out():
    task, _ = random_task(20, 4)
    [found] = fold_scores(task, [SETTING], [np.array([at]) for at in range(20)])
    assert len(found) == 20
    assert {scores.shape for scores in found} == {(1, 3)}


@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0, 0.2])])
def test_landmarks_at_all_rows_are_exact(weights):
    task, X = random_task(50, 5, weights=weights)
    [exact] = kernel_path(task, [SETTING])
    [found] = kernel._nystrom(task, [SETTING], 50)

    np.testing.assert_allclose(found.scores(X), exact.scores(X), atol=1e-6)


def test_landmarks_take_no_more_memory_for_several_gammas():
    task, _ = random_task(700, 5, landmarks=500)
    peaks = []
    for gammas in [(1.0,), (0.5, 1.0, 2.0)]:
        tracemalloc.start()
        for form in kernel_path(task, [{"gamma": gamma, "alpha": 1e-3} for gamma in gammas]):
            del form
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < peaks[0] + 500**2 * 8


def test_settings_in_any_order_have_their_own_gamma():
    task, X = random_task(60, 5, landmarks=20)
    mixed = [{"gamma": gamma, "alpha": alpha} for alpha in (1e-3, 0.1) for gamma in (0.5, 2.0)]
    for setting, form in zip(mixed, kernel_path(task, mixed), strict=True):
        [alone] = kernel_path(task, [setting])
        np.testing.assert_array_equal(form.scores(X), alone.scores(X))


def test_landmarks_among_copies_are_found(make_table):
    X = np.repeat(np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32), 30, axis=0)
    y = np.repeat(list("abab"), 30)
    head = fit(make_table(X, y), head="rbf", params={"landmarks": 20})

    assert (head.predict(X) == y).all()


def test_many_rows_are_fitted_on_landmarks(hard, monkeypatch):
    monkeypatch.setattr(kernel, "MOST_EXACT", 100)
    monkeypatch.setattr(kernel, "_LANDMARKS", 40)
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 37 * 4 * 12)
    head = fit(hard, head="rbf", folds=3)

    assert head.params["landmarks"] == 40
    assert head.kernel.rows.shape == (40, 12)
    assert head.test["top1"] > 0.85
    again = fit(hard, head="rbf", folds=3)
    np.testing.assert_array_equal(again.kernel.coef, head.kernel.coef)


def test_another_seed_draws_other_landmarks(hard):
    one, other = (fit(hard, head="rbf", params={"landmarks": 30}, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.kernel.rows, other.kernel.rows)


def test_folds_are_not_refitted_and_agree_with_refits(hard, monkeypatch):
    quick = fit(hard, head="rbf", folds=4)
    monkeypatch.setattr(sweep, "are_from_one_fit", lambda *_: False)
    slow = fit(hard, head="rbf", folds=4)

    # Refits scale by their own rows.
    for one, other in zip(quick.sweep, slow.sweep, strict=True):
        assert one["cross_entropy"] == pytest.approx(other["cross_entropy"], abs=0.05)
        assert one["top1"] == pytest.approx(other["top1"], abs=0.02)


def test_all_views_of_an_image_are_held_out_together(make_viewed_table, monkeypatch):
    table = make_viewed_table()
    views = {"train": table.n_views, "test": table.n_views}
    quick = fit(table, head="rbf", folds=3, views=views)
    monkeypatch.setattr(sweep, "are_from_one_fit", lambda *_: False)
    slow = fit(table, head="rbf", folds=3, views=views)

    assert quick.choice["top1"] == pytest.approx(slow.choice["top1"], abs=0.03)
    assert quick.kernel.rows.shape[0] % table.n_views == 0


def test_the_same_fit_has_the_same_bits(hard):
    one, other = fit(hard, head="rbf"), fit(hard, head="rbf", jobs=2)
    assert one.params == other.params
    np.testing.assert_array_equal(one.kernel.coef, other.kernel.coef)
    assert one.temperature == other.temperature


def test_each_space_is_a_block(hard):
    halves = hard.but(dims=(2, 10))
    form = fit(halves, head="rbf", params=SETTING).kernel
    share = (form.weight * np.sqrt(np.abs(hard.X)).std(axis=0)) ** 2

    assert share[:2].mean() / share[2:].mean() == pytest.approx(5, rel=0.5)


def test_balanced_classes_count_alike(make_table, make_blobs):
    X, y = make_blobs(n=600, n_classes=2, feature_dim=4, spread=3.0)
    keep = np.setdiff1d(np.arange(len(y)), np.flatnonzero(y == "class 1")[30:])
    table = make_table(X[keep], y[keep])
    plain, balanced = (fit(table, head="rbf", class_weight=weight) for weight in (None, "balanced"))

    shares = [(head.predict(X) == "class 1").mean() for head in (plain, balanced)]
    assert shares[1] > shares[0] + 0.1


def test_a_constant_column_counts_nothing(hard):
    hard.X[:, 3] = 7
    form = fit(hard, head="rbf", params=SETTING).kernel

    assert form.weight[3] == 0
    assert np.isfinite(form.scores(hard.X)).all()


def test_a_saved_head_predicts_the_same(hard, tmp_path):
    head = fit(hard, head="rbf")
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        assert {*archive.namelist()} == {"kernel.npz", "manifest.json", "seen.npz"}
        assert json.loads(archive.read("manifest.json"))["format_version"] == 5

    np.testing.assert_array_equal(loaded.predict_proba(hard.X), head.predict_proba(hard.X))
    np.testing.assert_array_equal(loaded.estimator.predict(hard.X), head.estimator.predict(hard.X))
    assert loaded.to_dict() == json.loads(json.dumps(head.to_dict()))


def test_other_heads_are_written_for_earlier_versions_too(hard, tmp_path):
    fit(hard, head="ridge").save(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        assert json.loads(archive.read("manifest.json"))["format_version"] == 4


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows", lambda rows: rows[:-1]),
        ("rows", lambda rows: rows[:, :-1]),
        ("rows", lambda rows: rows.astype(np.float64)),
        ("rows", lambda rows: np.where(rows == rows, np.float16(np.nan), rows)),
        ("rows", lambda rows: rows[:, :, None]),
        ("coef", lambda coef: coef[:, :1]),
        ("coef", lambda coef: coef * np.inf),
        ("intercept", lambda intercept: intercept[:-1]),
        ("mean", lambda mean: np.append(mean, 0)),
        ("weight", lambda weight: weight.astype(np.float32)),
        ("gamma", lambda gamma: -gamma),
        ("gamma", lambda gamma: gamma[None]),
        ("other", lambda _: np.zeros(3)),
    ],
)
def test_a_file_with_arrays_that_do_not_fit_is_refused(hard, tmp_path, name, change):
    path, other = tmp_path / "a.head", tmp_path / "b.head"
    fit(hard, head="rbf", params=SETTING).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with np.load(io.BytesIO(members["kernel.npz"])) as stored:
        arrays = dict(stored)
    arrays[name] = change(arrays.get(name))
    with np.errstate(invalid="ignore"):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
    with zipfile.ZipFile(other, "w") as archive:
        for member, data in {**members, "kernel.npz": buffer.getvalue()}.items():
            archive.writestr(member, data)

    with pytest.raises(HeadError, match="is damaged"):
        Head.load(other)


def test_lack_of_memory_is_seen_before(hard, monkeypatch):
    monkeypatch.setattr(kernel, "available_memory", lambda: 1_000_000)
    with pytest.raises(HeadError, match=r"rows takes .* GB of memory, .* --param landmarks=4000"):
        fit(hard, head="rbf", params=SETTING)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0}, "alpha of rbf must be a number above 0; found 0"),
        ({"gamma": "scale"}, "gamma of rbf must be a number above 0"),
        ({"landmarks": 0}, "landmarks is a number of rows, at least 1; found 0"),
        ({"landmarks": 2.5}, "landmarks is a number of rows"),
        ({"C": 1.0}, "rbf has no parameter C; it has alpha, class_weight, gamma, landmarks"),
    ],
)
def test_unfit_parameters_are_refused(hard, params, message):
    with pytest.raises(HeadError, match=message):
        fit(hard, head="rbf", params=params)


def test_classes_can_be_renamed_and_removed(hard):
    head = fit(hard, head="rbf")
    edited = edit_classes(head, rename={head.classes[0]: "z"}, remove=[head.classes[1]])
    kept = head.kernel.scores(hard.X)[:, [2, 0]]

    assert edited.classes.tolist() == [head.classes[2], "z"]
    np.testing.assert_array_equal(edited.scores(hard.X), kept)


def test_it_is_extended_by_a_gate_alone(hard):
    old, new = hard.select(hard.y != "class 2"), hard.select(hard.y == "class 2")
    head = fit(old, head="rbf", params=SETTING)
    assert "class 2" in extend(head, new, old_table=old).classes
    with pytest.raises(HeadError, match="rbf is not linear, but columns adds columns to linear heads"):
        extend(head, new, old_table=old, method="columns")


def test_a_form_of_no_rows_is_refused(hard):
    form = fit(hard, head="rbf", params=SETTING).kernel
    with pytest.raises(HeadError, match="inconsistent shapes"):
        replace(form, rows=form.rows[:0], coef=form.coef[:0])
    with pytest.raises(HeadError, match="unexpected arrays"):
        KernelForm.from_arrays({"rows": form.rows})
