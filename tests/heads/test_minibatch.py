"""The heads ``softmax`` and ``mlp``: minibatches, early stopping, and what is saved."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer
from sklearn.preprocessing import StandardScaler

from featstore.errors import HeadError
from featstore.extending import edit_classes, extend
from featstore.heads import Head, fit
from featstore.heads.calibration import softmax
from featstore.heads.data.blocks import ArrayTable, Rows
from featstore.heads.forms.network import NetworkForm
from featstore.heads.solvers import minibatch
from featstore.heads.solvers.minibatch import Minibatch, train
from featstore.scoring import cross_evaluate
from featstore.splits import SplitRule

QUICK = {"alpha": 0.01, "steps": 60}


@pytest.fixture
def hard(make_table, make_blobs):
    return make_table(*make_blobs(n=400, n_classes=3, feature_dim=12, spread=1.5))


def trained(X, codes, options, *, weights=None, **more):
    weights = np.ones(int(codes.max()) + 1) if weights is None else weights
    rows = Rows(ArrayTable(X), np.arange(len(X)), name="X")
    return train(
        rows, codes, len(weights), weights[codes], options, prepare=lambda block: block, seed=0, **more
    )


def sample(n=60, dim=5, n_classes=3):
    codes = np.arange(n) % n_classes
    X = np.random.default_rng(0).normal(size=(n, dim)) + 0.7 * codes[:, None]
    return X.astype(np.float32), codes


def loss_of(form, X, codes, weights=1.0, alpha=0.0):
    own = softmax(form.scores(X))[np.arange(len(codes)), codes]
    coefs = [form.coef, *([form.hidden_coef] if isinstance(form, NetworkForm) else [])]
    return (-np.log(own) * weights).mean() + alpha / 2 * sum((coef**2).sum() for coef in coefs)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 3.0, 0.2])])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_comes_to_softmax_regression(optimizer, weights):
    X, codes = sample()
    options = Minibatch(alpha=0.05, optimizer=optimizer, learning_rate=0.02, steps=3000, batch_size=60)
    found = trained(X, codes, options, weights=weights).form
    of_rows = np.ones(len(codes)) if weights is None else weights[codes]
    exact = LogisticRegression(C=1 / (0.05 * len(codes)), tol=1e-9, max_iter=1000).fit(X, codes, of_rows)

    np.testing.assert_allclose(found.coef, exact.coef_, atol=1e-3)
    np.testing.assert_allclose(softmax(found.scores(X)), exact.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("hidden_units", [None, 4])
def test_a_step_goes_down_the_gradient(hidden_units):
    X, codes = sample()
    weights, alpha = np.array([1.0, 2.0, 0.5]), 0.1
    more = {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.0, "batch_size": len(X)}
    before, after = (
        trained(
            X, codes, Minibatch(alpha=alpha, hidden_units=hidden_units, steps=steps, **more), weights=weights
        )
        for steps in (3, 4)
    )
    for name in ("hidden_coef", "hidden_intercept", "coef", "intercept"):
        if not hasattr(before.form, name):
            continue
        start, slope = getattr(before.form, name), np.empty(getattr(before.form, name).shape)
        for at in np.ndindex(start.shape):
            losses = []
            for step in (1e-5, -1e-5):
                moved = start.copy()
                moved[at] += step
                losses.append(loss_of(replace(before.form, **{name: moved}), X, codes, weights[codes], alpha))
            slope[at] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(getattr(after.form, name), start - 0.5 * slope, atol=2e-5)


def test_adam_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(minibatch, "_CHUNK", 4)
    # Of classes as large as each other the first slopes of the intercepts are rounding, which Adam scales up.
    X, codes = sample(n=58)
    coef, intercept = np.zeros((5, 3)), np.zeros(3)
    adam = AdamOptimizer([coef, intercept], learning_rate_init=0.1)
    for _ in range(7):
        errors = (softmax(X @ coef + intercept) - np.eye(3)[codes]) / len(X)
        adam.update_params([coef, intercept], [X.T @ errors, errors.sum(axis=0)])
    found = trained(X, codes, Minibatch(learning_rate=0.1, batch_size=58, steps=7)).form

    np.testing.assert_allclose(found.coef.T, coef, atol=1e-4)
    np.testing.assert_allclose(found.intercept, intercept, atol=1e-4)


def test_every_row_is_seen_once_in_each_pass_in_full_batches(monkeypatch):
    monkeypatch.setattr("featstore.heads.solvers.descent._RUN_ROWS", 5)
    monkeypatch.setattr("featstore.heads.solvers.descent._BLOCK_RUNS", 3)
    X = np.arange(53, dtype=np.float32)[:, None]
    rows = Rows(ArrayTable(X), np.arange(53), name="X")
    batches = minibatch._batches(rows, 7, np.random.default_rng(0), lambda block: block)
    found = [next(batches) for _ in range(16)]
    stream = np.concatenate([one[:, 0] for one, _ in found])

    assert {len(one) for one, _ in found} == {7}
    np.testing.assert_array_equal(stream, np.concatenate([own for _, own in found]))
    for first in (0, 53):
        np.testing.assert_array_equal(np.sort(stream[first : first + 53]), np.arange(53))
    assert not np.array_equal(stream[:53], stream[53:106])


def test_the_steps_of_retrain_py_are_made_as_they_are_given(hard):
    params = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.0,
        "batch_size": 100,
        "steps": 35,
        "eval_steps": 10,
        "patience": None,
        "alpha": 0.0,
    }
    head = fit(hard, head="softmax", params=params)

    assert head.params == params
    assert [step["step"] for step in head.steps] == [10, 20, 30, 35]
    assert {*head.steps[0]} == {"step", "top1", "train_top1", "cross_entropy"}
    assert head.steps[-1]["top1"] == head.validation["top1"]


def test_training_ends_where_validation_gets_no_better(make_table):
    # Labels at random: whatever is learnt is wrong elsewhere.
    generator = np.random.default_rng(0)
    table = make_table(
        generator.normal(size=(300, 30)).astype(np.float32), generator.choice(list("abc"), 300)
    )
    params = {"alpha": 0.0, "learning_rate": 0.05, "eval_steps": 5, "patience": 3}
    head = fit(table, head="softmax", params=params, refit=False)
    losses = [step["cross_entropy"] for step in head.steps]
    best = head.params["steps"] // 5 - 1

    assert len(losses) == best + 1 + 3
    assert losses[best] == min(losses)
    assert head.validation["top1"] == head.steps[best]["top1"]
    fixed = fit(
        table,
        head="softmax",
        params={**params, "steps": head.params["steps"], "patience": None},
        refit=False,
    )
    np.testing.assert_array_equal(fixed.linear.coef, head.linear.coef)


def test_a_refit_makes_as_many_passes(hard):
    alone, refitted = (
        fit(hard, head="softmax", params={"alpha": 0.0, "batch_size": 10, "learning_rate": 0.05}, refit=refit)
        for refit in (False, True)
    )
    n_train, n_validation = (sum(refitted.counts[split].values()) for split in ("train", "validation"))

    wanted = alone.params["steps"] * (n_train + n_validation) / n_train
    assert refitted.params["steps"] == round(wanted)


def test_a_head_with_a_number_of_passes_is_fitted_again_in_folds(hard):
    head = fit(hard, head="softmax", params={"alpha": 0.01, "epochs": 2})

    assert head.params == {"alpha": 0.01, "epochs": 2, "batch_size": 64}
    assert cross_evaluate(hard, head=head, folds=2).n == len(hard)


def test_folds_end_training_by_what_they_hold_out(hard):
    head = fit(hard, head="softmax", params={"alpha": 0.0, "learning_rate": 0.05}, folds=3)

    assert head.params["steps"] < 1000
    assert head.steps == []
    assert head.choice["folds"] == 3


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_the_seed_and_nothing_else_decides(hard, name):
    options = {"head": name, "params": {"steps": 40}}
    one, other, more = (fit(hard, **options, seed=seed, jobs=jobs) for seed, jobs in ((3, 1), (4, 1), (3, 2)))

    assert one.sweep == more.sweep
    np.testing.assert_array_equal(one.predict_proba(hard.X), more.predict_proba(hard.X))
    assert not np.array_equal(one.scores(hard.X), other.scores(hard.X))


def test_mlp_learns_what_no_line_divides(make_table):
    X = np.random.default_rng(0).uniform(-1, 1, size=(600, 2)).astype(np.float32)
    table = make_table(X + 100, np.where(X[:, 0] * X[:, 1] > 0, "even", "odd"))
    params = {"learning_rate": 0.02, "alpha": 0.0, "hidden_units": 16}
    head = fit(table, head="mlp", params=params)

    assert head.network.hidden_coef.shape == (16, 2)
    assert head.test["top1"] > 0.9
    assert fit(table, head="softmax", params=QUICK).test["top1"] < 0.7


def test_the_classifier_fits_alone_as_in_a_head(hard):
    inside = hard.splits(SplitRule()) == "train"
    params = {"alpha": 0.01, "steps": 50, "patience": None}
    for name in ("softmax", "mlp"):
        head = fit(hard, head=name, params=params, refit=False)
        pipeline = next(one for one in _infos() if one.name == name).make()
        pipeline[-1].set_params(**params, random_state=0)
        pipeline.fit(hard.X[inside], hard.y[inside])
        assert isinstance(pipeline[0], StandardScaler)
        np.testing.assert_allclose(
            pipeline.decision_function(hard.X), head.scores(hard.X), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_array_equal(pipeline.predict(hard.X), head.estimator.predict(hard.X))


def _infos():
    from featstore.heads import known_heads

    return known_heads()


def test_a_saved_mlp_predicts_the_same(hard, tmp_path):
    head = fit(hard, head="mlp", params=QUICK)
    head.save(tmp_path / "a.head")
    loaded = Head.load(tmp_path / "a.head")
    with zipfile.ZipFile(tmp_path / "a.head") as archive:
        assert {*archive.namelist()} == {"manifest.json", "network.npz", "seen.npz"}
        assert json.loads(archive.read("manifest.json"))["format_version"] == 6

    np.testing.assert_array_equal(loaded.predict_proba(hard.X), head.predict_proba(hard.X))
    np.testing.assert_array_equal(loaded.estimator.predict(hard.X), head.estimator.predict(hard.X))
    assert loaded.to_dict() == json.loads(json.dumps(head.to_dict()))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("hidden_coef", lambda coef: coef[:-1]),
        ("hidden_coef", lambda coef: coef[:, :-1]),
        ("hidden_coef", lambda coef: coef.astype(np.float32)),
        ("hidden_coef", lambda coef: coef[:, :, None]),
        ("hidden_coef", lambda coef: coef[:0]),
        ("hidden_intercept", lambda intercept: np.append(intercept, 0)),
        ("mean", lambda mean: mean[:-1]),
        ("coef", lambda coef: coef[:1]),
        ("coef", lambda coef: coef * np.nan),
        ("intercept", lambda intercept: intercept[None]),
        ("other", lambda _: np.zeros(3)),
    ],
)
def test_a_file_with_arrays_that_do_not_fit_is_refused(hard, tmp_path, name, change):
    path, other = tmp_path / "a.head", tmp_path / "b.head"
    fit(hard, head="mlp", params={"alpha": 0.0, "steps": 2}).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with np.load(io.BytesIO(members["network.npz"])) as stored:
        arrays = dict(stored)
    arrays[name] = change(arrays.get(name))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with zipfile.ZipFile(other, "w") as archive:
        for member, data in {**members, "network.npz": buffer.getvalue()}.items():
            archive.writestr(member, data)

    with pytest.raises(HeadError, match="is damaged"):
        Head.load(other)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -1}, "alpha must be a number of at least 0; found -1"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0; found 0"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\); found 1.0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1; found 0"),
        ({"steps": 2.5}, "steps must be an integer of at least 1; found 2.5"),
        ({"patience": True}, "patience must be an integer of at least 1; found True"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adam, sgd; found 'lbfgs'"),
        ({"steps": 4000, "epochs": 3}, "epochs and steps both limit the training; set one of them"),
        ({"hidden_units": 8}, "softmax has no parameter hidden_units; it has alpha, batch_size"),
    ],
)
def test_unfit_parameters_are_refused(hard, params, message):
    with pytest.raises(HeadError, match=message):
        fit(hard, head="softmax", params=params)


def test_weights_that_run_away_are_refused(hard):
    params = {"optimizer": "sgd", "learning_rate": 1e30, "alpha": 0.1, "patience": None, "steps": 50}
    with pytest.raises(HeadError, match=r"with learning_rate=1e\+30 has not converged: .* use a smaller one"):
        fit(hard, head="softmax", params=params)


def test_classes_of_mlp_can_be_renamed_and_removed(hard):
    head = fit(hard, head="mlp", params=QUICK)
    edited = edit_classes(head, rename={head.classes[0]: "z"}, remove=[head.classes[1]])

    assert edited.classes.tolist() == [head.classes[2], "z"]
    np.testing.assert_array_equal(edited.scores(hard.X), head.network.scores(hard.X)[:, [2, 0]])


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_they_are_extended(hard, name):
    old, new = hard.select(hard.y != "class 2"), hard.select(hard.y == "class 2")
    assert "class 2" in extend(fit(old, head=name, params=QUICK), new, old_table=old).classes
