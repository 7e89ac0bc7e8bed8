import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV

from featstore.errors import HeadError, NotInStoreError, SplitError
from featstore.heads import fit
from featstore.heads.calibration import mean_over_views, softmax
from featstore.heads.data.blocks import Rows
from featstore.heads.data.samples import Images, shared_images
from featstore.heads.data.view_counts import Views
from featstore.heads.fitting import held_out, sweep
from featstore.scoring import leakage
from featstore.splits import HashKFold, SplitRule

PARAMS = {
    "centroid": None,
    "knn": {"n_neighbors": 5},
    "lda": {"shrinkage": 0.3},
    "logistic": {"C": 0.1},
    "ridge": {"alpha": 10.0},
    "sgd": {"alpha": 0.001, "max_iter": 3},
    "softmax": {"alpha": 0.01, "steps": 40},
    "svm": {"C": 0.1},
}


@pytest.fixture
def table(make_viewed_table):
    return make_viewed_table(blur=2.0)


def without_views(table):
    return table.but(bank=None)


@pytest.mark.parametrize("name", list(PARAMS))
def test_every_named_head_learns_from_views_and_averages_over_them(name, table):
    head = fit(table, head=name, params=PARAMS[name], views={"train": 4, "test": 3})
    assert (head.train_views, head.test_views) == (4, 3)
    splits = table.splits()
    X = table.bank[splits == "test", :3]
    assert head.test["top1"] == np.mean(head.predict(X) == table.y[splits == "test"])
    assert {split: sum(counts.values()) for split, counts in head.counts.items()} == {
        split: int((splits == split).sum()) for split in ("train", "validation", "test")
    }
    assert (head.validation["n"], head.test["n"]) == tuple(
        (splits == split).sum() for split in ("validation", "test")
    )


@pytest.mark.parametrize("name", list(PARAMS))
def test_a_head_on_views_is_the_one_fitted_on_all_their_rows(name, table):
    from featstore.heads import known_heads

    info = next(one for one in known_heads() if one.name == name)
    if info.solver in {"descent", "minibatch", "moments"}:
        pytest.skip("fitted by passes, or exactly by other sums than scikit-learn's")
    head = fit(table, head=name, params=PARAMS[name], views={"train": 4}, refit=False)
    pipeline = info.make()
    pipeline[-1].set_params(**(PARAMS[name] or {}), **({"random_state": 0} if name == "svm" else {}))
    inside = table.splits() == "train"
    pipeline.fit(table.bank[inside].reshape(-1, table.feature_dim), np.repeat(table.y[inside], 4))
    assert np.mean(head.predict(table.X) == pipeline.predict(table.X)) > 0.99


@pytest.mark.parametrize("name", list(PARAMS))
@pytest.mark.parametrize("folds", [None, 3])
def test_one_view_gives_the_head_of_a_table_without_views(name, folds, table):
    options = {
        "head": name,
        "folds": folds,
        "params": {"sgd": {"max_iter": 2}, "softmax": {"steps": 40}}.get(name),
    }
    if name == "knn":
        options["params"] = {"n_neighbors": 3}
    plain, viewed = fit(without_views(table), **options), fit(table, views={"train": 1, "test": 1}, **options)
    np.testing.assert_array_equal(plain.predict_proba(table.X), viewed.predict_proba(table.X))
    unchanged = {key: value for key, value in plain.to_dict().items() if key != "created"}
    assert unchanged.items() <= viewed.to_dict().items()


def test_by_default_heads_are_of_the_images_themselves(table):
    head = fit(table, params={"C": 0.1})
    assert (head.train_views, head.test_views) == (1, 1)
    assert fit(table, params={"C": 0.1}, views={"test": 2}).test_views == 2
    assert fit(table, params={"C": 0.1}, views={"train": 2}).train_views == 2


def test_means_over_views_are_of_all_images_however_few_scores_are_kept(table, monkeypatch):
    views = {"train": 2, "test": 4}
    all_kept = fit(table, params={"C": 0.1}, views=views)
    monkeypatch.setattr(held_out, "_MOST_SCORES", 4 * 3 * 10)
    few = fit(table, params={"C": 0.1}, views=views)

    assert (few.validation, few.test) == (all_kept.validation, all_kept.test)
    assert all_kept.validation["n"] > 10


class Spy:
    """Records which rows each fit reads, and which it predicts."""

    def __init__(self, monkeypatch, n_stored):
        self.fitted, self.predicted, self._n_stored = [], [], n_stored
        prepare, predict_held_out = sweep.prepare, sweep.predict_held_out

        def preparing(recipe, rows, y, groups, weights):
            self.fitted.append(self._keys(rows))
            self.predicted.append([])
            assert len(rows) == len(y) == len(groups)
            return prepare(recipe, rows, y, groups, weights)

        def predicting(solution, rows, *arguments, **options):
            if self.predicted:
                self.predicted[-1].append(self._keys(rows))
            return predict_held_out(solution, rows, *arguments, **options)

        monkeypatch.setattr(sweep, "prepare", preparing)
        monkeypatch.setattr(sweep, "predict_held_out", predicting)

    def _keys(self, rows):
        table = rows._table.select(rows._rows)
        views = table.views if len(table.views) else np.zeros(len(table), int)
        return list(zip(table.content_hash.tolist(), views.tolist(), strict=True))


@settings(max_examples=30)
@given(
    train=st.integers(1, 4),
    test=st.integers(1, 4),
    folds=st.sampled_from([None, 2, 3]),
    refit=st.sampled_from([None, False, True]),
    salt=st.text(max_size=4),
    by_group=st.booleans(),
    n_copies=st.integers(1, 3),
)
def test_no_fit_sees_a_view_of_an_image_that_it_is_scored_on(
    table, train, test, folds, refit, salt, by_group, n_copies
):
    # Some images are there several times, under other paths.
    table = table.select(slice(0, 90))
    hashes = table.content_hash_bytes.copy()
    hashes[: 3 * n_copies] = np.repeat(hashes[:3], n_copies, axis=0)
    groups = np.array([f"g{max(9, number) // 3}" for number in range(len(table))])
    some = table.but(content_hash_bytes=hashes, groups=groups)
    rule = SplitRule(salt=salt, by="group" if by_group else "content", test=0.2, validation=0.2)
    unit = dict(zip(some.content_hash.tolist(), some.group_keys(rule).tolist(), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch, some.n_views)
        try:
            fit(
                some,
                head="centroid",
                rule=rule,
                views={"train": train, "test": test},
                folds=folds,
                refit=refit,
            )
        except SplitError:
            reject()  # a salt that leaves a fold or a class empty
    is_test = {
        unit[h] for h, split in zip(some.content_hash, some.splits(rule), strict=True) if split == "test"
    }
    predicted_in_folds = []
    for fitted, predictions in zip(spy.fitted, spy.predicted, strict=True):
        images = {content for content, _ in fitted}
        assert {*fitted} == {(content, view) for content in images for view in range(train)}
        assert not {unit[content] for content in images} & is_test
        for keys in predictions:
            contents = {content for content, _ in keys}
            assert {*keys} == {(content, view) for content in contents for view in range(test)}
            assert [view for _, view in keys] == [*range(test)] * (len(keys) // test)
            if contents <= images:
                continue  # how well it fits what it was fitted on
            assert not {unit[content] for content in contents} & {unit[content] for content in images}
            predicted_in_folds += keys
    if folds is not None:
        splits = some.splits(rule)
        inside = splits == "train" if refit is False else splits != "test"
        # Each image, a copy each time, is predicted once, in the fold that it is left out of.
        assert len(predicted_in_folds) == inside.sum() * test


def test_the_sweep_is_scored_by_the_mean_over_views(table):
    head = fit(table, head="svm", views={"test": 4}, refit=False)
    splits = table.splits()
    outside = splits == "validation"
    chosen = min(head.sweep, key=lambda step: step["cross_entropy"])
    again = fit(table, head="svm", params=chosen["params"], views={"test": 4}, refit=False)
    assert chosen["top1"] == np.mean(again.predict(table.bank[outside]) == table.y[outside])
    assert head.params == again.params


def test_the_temperature_is_that_of_the_mean(table):
    one, several = (fit(table, head="svm", params={"C": 0.1}, views={"test": n}) for n in (1, 4))
    np.testing.assert_array_equal(one.linear.coef, several.linear.coef)
    assert one.temperature != several.temperature
    outside = table.splits() == "validation"
    scores = one.scores(table.bank[outside].reshape(-1, table.feature_dim))
    y = np.searchsorted(one.classes, table.y[outside])

    def loss(temperature):
        means = mean_over_views(softmax(scores / temperature), 4)
        return -np.log(means[np.arange(len(y)), y]).mean()

    assert loss(several.temperature) < loss(one.temperature)


@pytest.mark.parametrize("folds", [None, 4])
def test_several_jobs_give_the_same_head(folds, table):
    options = {"views": {"train": 3, "test": 4}, "folds": folds}
    table = table.select(slice(0, 120))
    one, two = (
        fit(
            table,
            head=GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=HashKFold(3)),
            jobs=jobs,
            **{**options, "params": None},
        )
        for jobs in (1, 2)
    )
    np.testing.assert_array_equal(one.predict_proba(table.X), two.predict_proba(table.X))
    assert one.test == two.test


def test_processes_are_given_the_views_of_their_images(table):
    images = Images(
        table=table.with_views(4),
        at=np.array([7, 3, 50]),
        y=table.y[[7, 3, 50]],
        groups=table.content_hash[[7, 3, 50]],
        name="some",
        views=Views(train=2, test=4),
    )
    with shared_images(images, images.some(np.array([2])), jobs=2, n_tasks=2, prefer="processes") as shared:
        for given, expected in zip(shared, (images, images.some(np.array([2]))), strict=True):
            rows, y, groups, _ = given.to_fit
            wanted, wanted_y, wanted_groups, _ = expected.to_fit
            np.testing.assert_array_equal(rows.take(slice(None)), wanted.take(slice(None)))
            np.testing.assert_array_equal(y, wanted_y)
            np.testing.assert_array_equal(groups, wanted_groups)
            np.testing.assert_array_equal(
                given.to_predict.take(slice(None)), expected.to_predict.take(slice(None))
            )
    assert rows.take(slice(None)).shape == (2, table.feature_dim)


def test_blocks_hold_whole_images(table, monkeypatch):
    monkeypatch.setattr("featstore.heads.data.blocks._BLOCK_BYTES", 7 * 4 * table.feature_dim)
    rows = Rows(table.with_views(3), np.arange(30), name="some", n_views=3)
    blocks = list(rows.image_blocks())
    assert [(at.start, at.stop) for at, _ in blocks] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), table.bank[:10, :3])


def test_class_weights_are_those_of_images(table):
    few = table.select(np.r_[np.arange(0, 240, 3), np.arange(1, 240, 9), np.arange(2, 240, 3)])
    weighted = fit(few, params={"C": 0.1}, class_weight="balanced", views={"train": 4})
    plain = fit(few, params={"C": 0.1}, views={"train": 4})
    rare = str(few.classes[1]) if hasattr(few, "classes") else "class 1"
    said = [(head.predict(few.X) == rare).sum() for head in (weighted, plain)]
    assert said[0] > said[1]
    assert weighted.counts == plain.counts


def test_rejection_near_duplicates_leaks_and_conflicts_count_images(make_viewed_table):
    table = make_viewed_table(240, 3, feature_dim=64, blur=0.5)
    splits = table.splits()
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    bank, y = table.bank.copy(), table.y.copy()
    bank[test[:2]] = bank[train[:2]] + 1e-4
    hashes = table.content_hash_bytes.copy()
    hashes[train[5]] = hashes[train[4]]
    y[train[5]], y[train[4]] = "class 0", "class 1"
    table = table.but(X=np.ascontiguousarray(bank[:, 0]), bank=bank, y=y, content_hash_bytes=hashes)
    head = fit(table, params={"C": 0.1}, reject=0.5, views={"train": 3, "test": 2})
    found = leakage(head, table)
    assert (found["n_test"], found["n_without"]) == (2, len(test) - 2)
    assert (head.leaks, head.label_conflicts) == (0, 1)
    told = head.reject["test"]
    probabilities = head.predict_proba(table.bank[table.splits() == "test", :2])
    assert (told["n"], told["n_answered"]) == (len(test), (probabilities.max(axis=1) >= 0.5).sum())


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (8, "given for train and test"),
        ({"validation": 2}, "given for train and test"),
        ({"train": 0}, "number of views for train must be an integer of at least 1; found 0"),
        ({"test": 1.5}, "views for test"),
        ({"test": True}, "views for test"),
        ({"test": 2**17}, "views for test"),
    ],
)
def test_views_that_cannot_be_are_refused(table, views, message):
    with pytest.raises(HeadError, match=message):
        fit(table, views=views)


def test_a_table_of_views_is_not_one_of_images(table):
    with pytest.raises(HeadError, match="rows of this table are views"):
        fit(table.with_views(2))


@pytest.mark.parametrize(
    "search", [GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}), LogisticRegressionCV(Cs=2, cv=3)]
)
def test_a_search_that_would_tear_views_apart_is_refused(table, search):
    with pytest.raises(HeadError, match=r"by cv=.*separate the views of an image.*HashKFold"):
        fit(table, head=search, views={"train": 2})


def test_more_views_than_the_store_has_are_refused(tmp_path, make_spec):
    from featstore.images.views import ViewRecipe
    from featstore.store import Catalog, FeatureStore

    store = FeatureStore(tmp_path / "some.fstore", create=True)
    hashes = np.random.default_rng(0).integers(0, 256, (40, 32), np.uint8)
    space = store.create_space(make_spec(views=ViewRecipe(flip=True)), feature_dim=3)
    for view in (0, 1):
        space.append(hashes[:, :3].astype(np.float32), hashes, np.full(40, view, np.uint16))
    nothing = [None] * 40
    store.write_catalog(
        Catalog(
            name="photos",
            root="/data",
            location="/data",
            paths=[f"{number}.jpg" for number in range(40)],
            labels=[f"class {number % 2}" for number in range(40)],
            groups=nothing,
            splits=nothing,
            content_hash=hashes,
            sizes=np.zeros(40, np.int64),
            mtimes_ns=np.zeros(40, np.int64),
            reasons=nothing,
        )
    )
    assert fit(store.table(), head="centroid", views={"train": 2, "test": 2}).test_views == 2
    with pytest.raises(NotInStoreError, match="3 views of each image are requested"):
        fit(store.table(), head="centroid", views={"test": 3})
