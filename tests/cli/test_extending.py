"""`featstore extend` on a store of made-up features."""

import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from featstore.backbones.spec import BackboneSpec
from featstore.store import Catalog, FeatureStore
from featstore_cli.main import main

CENTRES = {
    name: np.random.default_rng(number).normal(size=8)
    for number, name in enumerate(("bog", "fen", "heath", "moor", "daisy", "rose"))
}
CATALOGS = {"land": ("bog", "fen", "heath", "daisy"), "flowers": ("daisy", "rose"), "moors": ("moor",)}


def spec(pooling="avg"):
    return BackboneSpec(
        architecture="tiny",
        weights_digest="0" * 64,
        layer="top",
        pooling=pooling,
        size_px=(8, 8),
        preprocessing="unit",
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "land.fstore"
    store, random = FeatureStore(path, create=True), np.random.default_rng(0)
    for name, labels in CATALOGS.items():
        n = 40 * len(labels)
        y = [labels[number % len(labels)] for number in range(n)]
        X = np.stack([1 + CENTRES[label] + 0.4 * random.normal(size=8) for label in y]).astype(np.float32)
        hashes = random.integers(0, 256, (n, 32), np.uint8)
        for pooling in ("avg", "max"):
            if pooling == "avg" or name == "flowers":
                store.create_space(spec(pooling), feature_dim=8).append(X, hashes)
        store.write_catalog(
            Catalog(
                name=name,
                root="/data",
                location="/data",
                paths=[f"{number:03d}.jpg" for number in range(n)],
                labels=y,
                groups=[None] * n,
                splits=[None] * n,
                content_hash=hashes,
                sizes=np.zeros(n),
                mtimes_ns=np.zeros(n),
                reasons=[None] * n,
            )
        )
    table = store.table(space=spec().name, catalog="land")
    featstore.fit(table, params={"C": 0.1}).save(store.head_path("old"))
    return path


@pytest.fixture
def store(original, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(original, tmp_path / "land.fstore")
    monkeypatch.chdir(tmp_path)
    return FeatureStore(tmp_path / "land.fstore")


def run(line, code=0):
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == code, result.output
    return result


def test_it_says_both_sides_and_saves_the_head(store):
    result = run("extend old --catalog flowers --same daisy=daisy --max-loss 0.05")
    head = featstore.Head.load(store.head_path("old-flowers"))
    assert head.classes.tolist() == ["bog", "daisy", "fen", "heath", "rose"]
    assert "5 classes, 4 old and 1 new" in result.stdout
    assert "new accuracy " in result.stdout
    assert "lost (95% interval" in result.stdout
    assert "chosen" in result.stdout
    assert "images of old classes: land, which the old head was trained on" in result.stderr
    assert "saved to land.fstore/heads/old-flowers.head" in result.stdout


def test_json_holds_the_extension(store):
    told = json.loads(run("extend old --catalog flowers -o more.head --json").stdout)
    assert told["classes"] == ["bog", "daisy", "daisy (flowers)", "fen", "heath", "rose"]
    assert told["extension"]["confused"][0]["new"] == "daisy (flowers)"
    assert told["extension"]["old_catalogs"] == ["land"]
    assert told["path"].endswith("more.head")


def test_equal_names_are_noted_and_confusions_reported(store):
    result = run("extend old --catalog flowers")
    assert "daisy is also an old class, and stays separate: --same daisy=daisy joins them" in result.stderr
    assert "daisy (flowers) are predicted as daisy" in result.stdout


def test_at_a_terminal_it_asks(store, monkeypatch):
    from featstore_cli.commands import extend as extending

    monkeypatch.setattr(extending, "_at_terminal", lambda: True)
    result = CliRunner().invoke(main, ["extend", "old", "--catalog", "flowers"], input="y\n")
    assert "daisy is also an old class. Is it the same?" in result.stderr
    assert "daisy" in featstore.Head.load(store.head_path("old-flowers")).extension["same"]


def test_without_old_photos_it_says_that_the_cost_is_not_known(store, tmp_path):
    head = featstore.Head.load(store.head_path("old"))
    from dataclasses import replace

    replace(head, catalog="").save(tmp_path / "bare.head")
    result = run("extend bare.head --store land.fstore --catalog moors -o m.head --plot m.png")
    assert "there are no images of old classes" in result.stderr
    assert "there is no trade-off to plot" in result.stderr
    assert not (tmp_path / "m.png").exists()


def test_the_trade_off_is_drawn(store, tmp_path):
    run("extend old --catalog moors --plot m.png")
    assert (tmp_path / "m.png").stat().st_size > 10_000


def test_the_head_is_evaluated_compared_and_extended_again(store):
    run("extend old --catalog flowers --old-catalog land")
    assert "test accuracy" in run("evaluate old-flowers").stdout
    run("extend old --catalog flowers --old-catalog land --max-loss 0.05 -o other")
    assert "on " in run("compare old-flowers other --store land.fstore").stdout
    result = run("extend old-flowers --catalog moors --json")
    told = json.loads(result.stdout)
    assert len(told["classes"]) == 7
    assert told["extension"]["old_catalogs"] == ["flowers", "land"]


def test_features_of_another_backbone_are_refused(store):
    result = run(f"extend old --catalog flowers --space {spec('max').name}", code=1)
    assert "pooling is avg in the head and max here" in result.stderr


def test_a_head_on_several_spaces_is_extended_on_the_same(store):
    averages, largest = (store.space(spec(pooling).name) for pooling in ("avg", "max"))
    moors = store.catalog("moors").content_hash
    largest.append(averages.rows(averages.lookup(moors)), moors)
    run(f"fit --catalog flowers --space {averages.name} --space {largest.name} --param C=0.1 -o two")
    run("extend two --catalog moors")
    head = featstore.Head.load(store.head_path("two-moors"))
    assert head.spec.parts == (averages.spec, largest.spec)
    assert head.classes.tolist() == ["daisy", "moor", "rose"]
    assert head.extension["old_catalogs"] == ["flowers"]
    assert head.weights == featstore.Head.load(store.head_path("two")).weights


def test_a_store_without_the_heads_space_is_refused(store, tmp_path):
    run("merge other.fstore land.fstore")
    import shutil

    shutil.rmtree(tmp_path / "other.fstore" / "spaces" / spec().name)
    result = run("extend land.fstore/heads/old.head --store other.fstore --catalog flowers", code=2)
    assert f"the head was trained on features of {spec().name}" in result.stderr


def test_many_equal_names_are_noted_and_asked_about_at_once(store, monkeypatch, capsys):
    from featstore_cli.commands import extend as extending

    monkeypatch.setattr(extending, "_MOST_ASKED", 1)
    old, table = featstore.Head.load(store.head_path("old")), store.table(spec().name, "land")
    monkeypatch.setattr(extending, "_at_terminal", lambda: False)
    assert extending._ask_for_same(old, table, {}, can_ask=True) == {}
    assert "the same holds for 3 more labels" in capsys.readouterr().err
    monkeypatch.setattr(extending, "_at_terminal", lambda: True)
    monkeypatch.setattr("click.confirm", lambda question, **_: "4 labels are also old classes" in question)
    assert extending._ask_for_same(old, table, {}, can_ask=True) == {
        label: label for label in ("bog", "daisy", "fen", "heath")
    }


def test_a_wrong_pair_is_refused(store):
    assert "is not of the form NEW=OLD" in run("extend old --catalog flowers --same daisy", code=2).stderr
    assert (
        "no new image has the label 'tulip'" in run("extend old --catalog flowers --same tulip=fen", 1).stderr
    )
