"""What each of several spaces brings: forward selection in folds."""

import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from fake_tables import spec_of, table_of
from featstore import FeatureStore, choose_spaces, cross_evaluate, fit
from featstore.errors import HeadError, SplitError
from featstore.scoring import space_choice
from featstore.splits import SplitRule
from featstore.store import Catalog
from featstore_cli.main import main

N = 200
# Two of them tell other classes apart.
NAMES = ("noise", "left", "right")
OPTIONS = {"head": "ridge", "params": {"alpha": 10.0}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    random = np.random.default_rng(1)
    y = np.arange(N) % 4
    noise = random.normal(size=(3, N, 3))
    left, right = (np.eye(3)[np.where(y // 2 == side, y % 2, 2)] + 0.5 * noise[side] for side in (0, 1))
    features = {"noise": noise[2], "left": left, "right": right}
    hashes = np.stack([np.frombuffer(hashlib.sha256(b"%d" % at).digest(), np.uint8) for at in range(N)])
    store = FeatureStore(tmp_path_factory.mktemp("spaces") / "a.fstore", create=True)
    for name in NAMES:
        space = store.create_space(spec_of(name), feature_dim=3)
        space.append(features[name].astype(np.float32), hashes)
    # Of a few images only.
    store.create_space(spec_of("part"), feature_dim=3).append(left[:20].astype(np.float32), hashes[:20])
    nothing = [None] * N
    store.write_catalog(
        Catalog(
            name="photos",
            root="/",
            location="/",
            paths=[f"{at}.jpg" for at in range(N)],
            labels=[f"class {one}" for one in y],
            groups=nothing,
            splits=nothing,
            content_hash=hashes,
            sizes=np.full(N, -1),
            mtimes_ns=np.full(N, -1),
            reasons=nothing,
        )
    )
    return store


@pytest.fixture(scope="module")
def table(store):
    return store.table(space=[spec_of(name).name for name in NAMES])


@pytest.fixture(scope="module")
def choice(table):
    return choose_spaces(table, **OPTIONS, folds=3)


def names_of(names):
    return [name.partition("-")[0] for name in names]


def test_spaces_come_in_the_order_of_what_they_bring(choice):
    order = names_of(step["space"] for step in choice.steps)

    assert order[2] == "noise"
    assert names_of(choice.spaces) == ["left", "right"]
    assert [step["is_chosen"] for step in choice.steps] == [True, True, False]
    first, second, last = choice.steps
    assert (first["gain"], first["gain_ci"], first["p"]) == (None, None, None)
    assert second["gain"] == pytest.approx(second["top1"] - first["top1"])
    assert second["gain_ci"][0] > 0.05
    assert second["p"] < 0.01
    assert abs(last["gain"]) < 0.05
    json.dumps(choice.to_dict())


def test_each_step_is_scored_as_cross_evaluate_scores_its_spaces_without_test(choice, table):
    outside = np.flatnonzero(table.splits(SplitRule()) != "test")
    known = cross_evaluate(table.select(outside), **OPTIONS, folds=3)
    last = choice.steps[-1]

    assert choice.n == len(outside)
    assert last["top1"] == known.top1
    # Calibrated on the images themselves.
    assert last["log_loss"] < known.log_loss
    assert choice.steps[0]["alone"] == choice.steps[0]["top1"]


def test_the_choice_is_scored_on_folds_that_it_was_made_without(table, monkeypatch):
    made_on = []
    path = space_choice._Fits.path
    monkeypatch.setattr(
        space_choice._Fits,
        "path",
        lambda self, rows, **more: made_on.append(rows) or path(self, rows, **more),
    )
    choice = choose_spaces(table, **OPTIONS, folds=3)
    everything, *others = made_on

    assert len(others) == 3
    assert sorted(np.concatenate([np.setdiff1d(everything, rows) for rows in others])) == everything.tolist()
    assert sum(choice.nested["spaces"].values()) == 3
    assert choice.nested["n"] == choice.n
    assert choice.nested["top1"] == pytest.approx(choice.steps[1]["top1"], abs=0.03)


def test_a_head_on_the_chosen_spaces_is_that_of_their_join(choice, table, store):
    head = fit(choice.select(table), **OPTIONS)
    again = fit(store.table(space=choice.spaces), **OPTIONS)

    assert head.space == "+".join(choice.spaces)
    assert head.fingerprint == again.fingerprint
    np.testing.assert_array_equal(head.linear.coef, again.linear.coef)


def test_joins_are_fitted_once_and_progress_is_reported(table, monkeypatch):
    told = []
    of = space_choice.of_spaces
    joins = []
    monkeypatch.setattr(space_choice, "of_spaces", lambda table, at: joins.append(tuple(at)) or of(table, at))
    choose_spaces(table, **OPTIONS, folds=2, progress=lambda *now: told.append(now))

    assert len(joins) == len({*joins})
    assert [done for done, _ in told] == [*range(1, 2 * len(joins) + 1)]
    assert told[0] == (1, 12)
    assert all(done <= total for done, total in told)


def test_a_single_space_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    with pytest.raises(
        HeadError, match="there is nothing to choose: the table has the features of scattering"
    ):
        choose_spaces(table_of(X, np.repeat(["a", "b", "c"], 10)))


def test_too_few_folds_are_refused(table):
    with pytest.raises(SplitError, match="folds must be an integer of at least 2"):
        choose_spaces(table, folds=1)


def run(line, code=0):
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == code, result.output
    return result


def test_fit_joins_what_brings_something(store, choice):
    result = run(f"fit {store.path} --head ridge --param alpha=10 --spaces auto --no-leakage -q")
    head = featstore.Head.load(store.head_path("ridge"))

    assert f"the space {spec_of('part').name} is left out: it lacks features of 180 images" in result.stderr
    assert head.space == "+".join(choice.spaces)
    taken = f"{choice.spaces[0]} and {choice.spaces[1]} are taken: no other lowers the cross entropy by 1% and beyond its error"
    assert taken in result.stdout
    assert "nested accuracy, of the choice made without each fold: " in result.stdout


def test_fit_joins_all_and_says_what_each_brings(store, choice):
    names = " ".join(f"--space {spec_of(name).name}" for name in ("left", "noise"))
    line = f"fit {store.path} --head ridge --param alpha=10 --spaces all {names} --no-leakage -q"
    assert (
        f"all 2 spaces are joined; --spaces auto would take {spec_of('left').name} alone" in run(line).stdout
    )
    told = json.loads(run(f"{line} --json").stdout)

    assert names_of(told["space"].split("+")) == ["left", "noise"]
    assert names_of(told["spaces"]["spaces"]) == ["left"]
    assert names_of(step["space"] for step in told["spaces"]["steps"]) == ["left", "noise"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--spaces auto --head auto", "--spaces compares spaces by one head; name it with --head"),
        ("--spaces some", "'some' is not one of 'auto', 'all'"),
    ],
)
def test_unfit_options_are_refused(store, options, message):
    assert message in run(f"fit {store.path} {options}", code=2).stderr


def test_a_store_of_one_space_has_nothing_to_choose(store):
    line = f"fit {store.path} --spaces auto --space {spec_of('left').name}"
    assert "there is nothing to choose: the table has the features of left-" in run(line, code=1).stderr


def test_selected_rows_stay_in_their_splits(choice, table):
    rule = SplitRule(stratify=True)
    part = table.select(np.arange(0, N, 3))

    np.testing.assert_array_equal(choice.select(part).splits(rule), part.splits(rule))
