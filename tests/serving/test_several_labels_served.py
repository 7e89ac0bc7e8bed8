"""A head that gives several labels, served: its answers and its page."""

import base64
import csv
import json
import urllib.request
from pathlib import Path

import pytest
from label_tables import label_arrays
from selenium.webdriver.support.ui import WebDriverWait

import featstore
from browsers import complaints
from fakes import CountingBackbone
from featstore.serving import Limits, ServedModel

LABELS = ("<b>red</b>", "a & b", "__proto__")


def ask(url, body=None, kind="application/json"):
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"content-type": kind}), timeout=60
    ) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith("{") else text


@pytest.fixture(scope="module")
def table(photos, tmp_path_factory):
    """The photos of the page's tests, with what they show and two labels that come and go."""
    folder = tmp_path_factory.mktemp("several")
    _, has = label_arrays(240)
    with open(photos / "list.csv", newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)][:240]
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        lines = [
            (photos / row["path"], "|".join([LABELS[number % 3], *(["often"] if has[number, 0] else [])]))
            for number, row in enumerate(rows)
        ]
        csv.writer(file).writerows([("path", "label"), *lines])
    options = {"backbone": CountingBackbone(feature_dim=96), "label_separator": "|"}
    featstore.extract(folder / "list.csv", folder / "a.fstore", **options)
    return featstore.FeatureStore(folder / "a.fstore").table()


@pytest.fixture(scope="module")
def several(table):
    head = featstore.fit_labels(table, head="ridge", folds=3)
    return featstore.Predictor(head, backbone=CountingBackbone(feature_dim=96))


@pytest.fixture(scope="module")
def address(several, table, serving):
    model = ServedModel(name="several", predictor=several, table=table)
    with serving([model], Limits(), hosts=["127.0.0.1", "localhost"]) as address:
        yield address


def test_answers_have_the_labels_and_models_their_thresholds(address, several, table):
    paths = table.paths[:6].tolist()
    images = [Path(path).read_bytes() for path in paths]
    expected = []
    for one in several.stream(images, top=4):
        expected.append(one.to_dict())
        del expected[-1]["path"]
    body = json.dumps({"instances": [{"b64": base64.b64encode(image).decode()} for image in images]})

    assert ask(f"{address}/v1/models/several:predict", body.encode()) == {"predictions": expected}
    assert any(len(one["labels"]) > 1 for one in expected)
    form = b'--line\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n%s\r\n--line--\r\n'
    kind = "multipart/form-data; boundary=line"
    told = ask(f"{address}/predict?top=1&detail=1", form % images[0], kind)["predictions"][0]
    assert (told["label"], len(told["top"]), told["labels"]) == (None, 1, expected[0]["labels"])
    assert told["neighbors"][0]["label"] == ", ".join(table.label_texts[0].split("|"))
    known = ask(f"{address}/v1/models/several/metadata")
    assert known["thresholds"] == dict(
        zip(several.classes.tolist(), several.model.thresholds.tolist(), strict=True)
    )
    assert 'images_total{model="several",outcome="rejected"}' not in ask(f"{address}/metrics")


def test_the_page_shows_the_labels_and_where_each_begins(address, chromium, several, table):
    chromium.get(f"{address}/")
    path = str(table.paths[0])
    chromium.find_element("id", "files").send_keys(path)
    WebDriverWait(chromium, 60).until(lambda page: "1 done" in page.find_element("id", "said").text)
    found = several.predict(path, top=4)

    answer = chromium.find_element("css selector", ".answer").text
    assert answer == (", ".join(label for label, _ in found.labels) or "None of the labels")
    bars = chromium.find_elements("css selector", ".bars li")
    assert [one.find_element("css selector", "span").text for one in bars] == [
        label for label, _ in found.top
    ]
    given = {label for label, _ in found.labels}
    assert {
        one.find_element("css selector", "span").text for one in bars if "given" in one.get_attribute("class")
    } == given
    assert len(chromium.find_elements("css selector", ".bars rect.from")) == len(several.classes)
    assert complaints(chromium) == []
