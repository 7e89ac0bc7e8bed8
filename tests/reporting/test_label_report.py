"""A report on a head that gives several labels: its data, and its page in a browser."""

import csv
import json
import re

import numpy as np
import pytest
from label_tables import label_arrays
from selenium.webdriver.support.ui import Select, WebDriverWait

import featstore
from browsers import click, complaints
from fakes import CountingBackbone

LABELS = ("<script>alert(1)</script>", "a & b", "plain")


@pytest.fixture(scope="module")
def table(photos, tmp_path_factory):
    """The photos of the other reports: what they show, and a label at random; of one, nothing is known."""
    folder = tmp_path_factory.mktemp("several")
    _, has = label_arrays(240)
    with open(photos / "list.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)][:240]
    lines = []
    for number, row in enumerate(rows):
        labels = [LABELS[number % 3], *(["often"] if has[number, 0] else [])]
        lines.append((photos / row["path"], "|".join(labels) if number != 7 else ""))
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *lines])
    options = {"backbone": CountingBackbone(feature_dim=96), "label_separator": "|"}
    featstore.extract(folder / "list.csv", folder / "a.fstore", **options)
    return featstore.FeatureStore(folder / "a.fstore").table()


@pytest.fixture(scope="module")
def head(table):
    return featstore.fit_labels(table, head="ridge", folds=3, rule=featstore.SplitRule(test=0.3))


@pytest.fixture(scope="module")
def made(head, table, tmp_path_factory):
    return featstore.report_labels(head, table, tmp_path_factory.mktemp("made") / "report.html")


@pytest.fixture(scope="module")
def data(made):
    with open(made.path, encoding="utf-8") as file:
        (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', file.read(), re.S)
    return json.loads(text)


def test_scores_and_curves_are_those_of_evaluate(made, head, table):
    expected = featstore.evaluate_labels(head, table)
    with open(made.path, encoding="utf-8") as file:
        page = file.read()
    assert (made.split, made.n, made.map, made.map_ci) == ("test", expected.n, expected.map, expected.map_ci)
    for one in expected.classes:
        assert f"{100 * one['average_precision']:.1f}%" in page
        assert f"{one['threshold']:.3f}" in page
    assert page.count('class="small-curve"') == 4
    assert "<script>alert(1)" not in page.replace(json.dumps(LABELS[0]), "")


def test_each_image_has_its_labels_and_those_that_it_is_given(data, head, table):
    images = data["images"]
    rows = [table.relative_paths.index(path) for path in images["path"]]
    p = head.predict_proba(table.X)[rows]
    has, known = head.label_sets_of(table)[rows], table.is_labelled[rows]

    assert data["labels"] == head.classes.tolist()
    assert len(rows) == len(table)
    for at in range(len(rows)):
        assert images["sets"][at] == (np.flatnonzero(has[at]).tolist() if known[at] else None)
        given = np.flatnonzero(p[at] >= head.thresholds)
        assert images["given"][at] == given.tolist()
        for number, value in images["p"][at].items():
            assert value == pytest.approx(p[at, int(number)], abs=1e-4)
    result = featstore.evaluate_labels(head, table)
    assert len(data["mistakes"]) == len(result.mistakes)
    for label, (best, missed, extra) in data["examples"].items():
        assert all(int(label) in images["sets"][at] for at in best + missed)
        assert all(int(label) in images["given"][at] for at in best + extra)
    assert {one[2] for one in data["suspects"]} <= {"missing", "wrong"}


def test_what_is_not_wanted_is_left_out(head, table, tmp_path):
    curve = featstore.learning_curve_of_labels(table, head="ridge", fractions=[0.5], repeats=1)
    made = featstore.report_labels(
        head, table, tmp_path / "a.html", images=False, suspects=False, split="all", curve=curve
    )
    assert made.left_out["suspects"] == "not asked for"
    assert (made.n_thumbnails, made.split) == (0, "all")
    assert "Learning curve" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert set(made.to_dict()) == {
        *("path", "bytes", "images", "thumbnails", "thumbnail_px", "unreadable", "left_out", "split", "n"),
        *("map", "map_ci"),
    }


def test_the_page_shows_photos_with_their_labels(chromium, made, data):
    chromium.get(f"file://{made.path}")
    said = chromium.find_elements("css selector", "[data-list=mistakes] .says")
    assert len(said) == min(24, len(data["mistakes"]))
    assert all("missed: " in one.text or "extra: " in one.text for one in said)
    click(chromium, chromium.find_element("css selector", "[data-list=mistakes] .photo"))
    terms = [one.text for one in chromium.find_elements("css selector", "#photo dt")]
    assert terms[:3] == ["Labels", "Prediction", "Split"]
    chromium.find_element("id", "photo-close").click()

    colours = Select(chromium.find_element("id", "map-colour"))
    assert [one.text for one in colours.options][:3] == ["right or wrong", "split", f"with {LABELS[0]}"]
    colours.select_by_value("with 1")
    n_with = sum(sets is not None and 1 in sets for sets in data["images"]["sets"])
    legend = lambda page: page.find_element("id", "map-legend").text  # noqa: E731
    WebDriverWait(chromium, 20).until(lambda page: f"with a & b ({n_with})" in legend(page))
    assert "labels not known (1)" in legend(chromium)
    assert complaints(chromium) == []
