"""What a report holds, by the data and the text of its page."""

import base64
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.duplicates.likeness import fit_likeness
from featstore.errors import OutputError, ReportError
from featstore.reporting.projection import keep_compiled, project

LABELS = ("<script>alert(1)</script>", "a & 'b' \"c\"", "plain")


def text_of(report):
    with open(report.path, encoding="utf-8") as file:
        return file.read()


def data_of(report):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text_of(report), re.S)
    return json.loads(text)


def rows_of(data, table):
    """The rows of a table of a report's images, by their paths."""
    numbers = {path: row for row, path in enumerate(table.relative_paths)}
    return [numbers[path] for path in data["images"]["path"]]


@pytest.fixture(scope="module")
def data(made):
    return data_of(made)


def test_names_are_text_and_nothing_else(made, data):
    page = text_of(made)
    assert LABELS[0] in data["labels"]
    assert len(re.findall(r"<script", page)) == len(re.findall(r"</script", page)) == 2
    assert "<img" not in page.replace("<img&gt;", "")
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_the_page_allows_its_own_program_and_style_and_nothing_of_the_network(made):
    page = text_of(made)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    policy = policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; style-src ")
    for name, pattern in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (text,) = re.findall(pattern, page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    targets = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert all(target.startswith("#") or target == "data:," for target in targets)
    assert " style=" not in page
    assert not re.search(r"\son\w+=\"", page)


def test_scores_are_those_of_evaluate(made, data, head, table):
    expected = featstore.evaluate(head, table)
    page, images = text_of(made), data["images"]
    assert (made.split, made.n, made.top1, made.top1_ci) == (
        "test",
        expected.n,
        expected.top1,
        expected.top1_ci,
    )
    assert f"{100 * expected.top1:.1f}%" in page
    assert f"{100 * expected.macro_f1:.1f}%" in page
    names = [one["label"] for one in expected.classes]
    confusion = np.zeros((3, 3), int)
    for label, guess, scored in zip(images["label"], images["predicted"], images["scored"], strict=True):
        if scored:
            confusion[names.index(data["labels"][label]), names.index(data["labels"][guess])] += 1
    assert confusion.tolist() == expected.confusion
    wrong = [images["path"][at] for at in data["mistakes"]]
    assert wrong
    assert wrong == [os.path.basename(one["path"]) for one in expected.misclassified]
    shown = re.findall(r'<button type="button" class="cell [^>]*>(\d+)</button>', page)
    assert sorted(map(int, shown)) == sorted(count for row in expected.confusion for count in row if count)


def test_each_class_has_its_surest_its_worst_and_its_most_typical_photos(data, head, table):
    images = data["images"]
    rows = rows_of(data, table)
    vectors = fit_likeness(table.X, table.content_hash_bytes).vectors(table.X)
    for number, label in enumerate(data["labels"]):
        best, worst, typical = data["examples"][str(number)]
        own = [at for at in range(len(rows)) if images["scored"][at] and images["label"][at] == number]
        right = [at for at in own if images["predicted"][at] == number]
        assert [images["pLabel"][at] for at in best] == sorted(
            (images["pLabel"][at] for at in right), reverse=True
        )[:3]
        assert [images["pLabel"][at] for at in worst] == sorted(images["pLabel"][at] for at in own)[:3]
        of_class = np.flatnonzero(table.y == label)
        cosines = vectors[of_class] @ vectors[of_class].mean(axis=0)
        assert [rows[at] for at in typical] == of_class[np.argsort(-cosines)][:3].tolist()


def test_suspects_are_those_of_a_head_of_the_same_kind_and_parameters(data, head, table):
    expected = featstore.find_suspects(table, head="ridge", params=head.params)
    rows = rows_of(data, table)
    assert [rows[at] for at, *_ in data["suspects"]] == [one.row for one in expected.suspects]
    assert 4 in [rows[at] for at, *_ in data["suspects"]]
    assert [data["labels"][guess] for _, guess, *_ in data["suspects"]] == [
        one.suggested for one in expected.suspects
    ]


def test_copies_in_two_splits_are_marked(made, data):
    (group,) = [group for group in data["groups"] if "identical files" in group["marks"]]
    assert "spread over splits" in group["marks"]
    splits = {data["splits"][data["images"]["split"][at]] for at, _ in group["images"]}
    assert splits == {"train", "test"}
    assert "1 of them spread over splits" in text_of(made)


def test_what_is_unlike_all_training_images_is_compared_with_others_alone(data, table, head):
    rows = rows_of(data, table)
    similarities = [similarity for _, similarity, _ in data["outliers"]]
    assert similarities == sorted(similarities)
    assert len(similarities) == min(len(rows), 120)
    fitted = head.was_fitted_on(table)
    for at, similarity, nearest in data["outliers"]:
        assert fitted[rows[nearest]]
        assert table.content_hash[rows[at]] != table.content_hash[rows[nearest]]
        assert similarity < 0.99


def test_the_map_shows_all_images_along_the_directions_of_most_variance(data, table):
    rows = rows_of(data, table)
    assert sorted(rows) == list(range(len(table)))
    centred = table.X - table.X.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    for name, direction in zip("xy", directions[:2], strict=True):
        expected = (centred @ direction)[rows]
        assert abs(np.corrcoef(expected, data["images"][name])[0, 1]) > 0.999
        assert (min(data["images"][name]), max(data["images"][name])) == (0, 4095)
    assert data["images"]["label"][rows.index(5)] == -1


def test_thumbnails_are_the_photos(data, photos, made):
    assert made.n_thumbnails == made.n_images == len(data["images"]["path"])
    # The two copies share one.
    assert len(data["thumbnails"]) == made.n_images - 1
    for at in (0, 7, made.n_images - 1):
        file = io.BytesIO(base64.b64decode(data["thumbnails"][data["images"]["thumbnail"][at]]))
        with Image.open(file) as small, Image.open(photos / data["images"]["path"][at]) as photo:
            assert small.format == "WEBP"
            assert small.size == (64, 48)
            difference = np.asarray(small.convert("RGB"), float) - np.asarray(
                photo.resize((64, 48)).convert("RGB"), float
            )
            assert abs(difference).mean() < 30


@pytest.fixture
def quick(head, table, tmp_path):
    """Report without the parts that take time."""

    def make(name="report.html", **options):
        return featstore.report(head, table, tmp_path / name, **{"suspects": False, **options})

    return make


@pytest.mark.parametrize("budget_mb", [0.09, 0.12, 0.2])
def test_a_budget_is_kept_and_what_the_lists_show_comes_first(quick, budget_mb):
    made = quick(budget_mb=budget_mb)
    assert os.path.getsize(made.path) == made.n_bytes <= budget_mb * 1e6
    assert 0 < made.n_thumbnails < made.n_images or made.n_bytes > 0.5 * budget_mb * 1e6
    data = data_of(made)
    if made.n_thumbnails < made.n_images:
        examples = [at for kinds in data["examples"].values() for one in kinds for at in one]
        has = [data["images"]["thumbnail"][at] >= 0 for at in examples]
        assert np.mean(has) > made.n_thumbnails / made.n_images


def test_a_budget_too_small_for_the_numbers_is_named(quick, tmp_path):
    with pytest.raises(
        ReportError, match=r"has 0\.\d MB even without photos, more than 0\.01 MB: raise the budget"
    ):
        quick(budget_mb=0.01)
    assert os.listdir(tmp_path) == []


def test_without_images_no_photo_is_opened(quick, monkeypatch):
    monkeypatch.setattr(
        "featstore.reporting.embedding.read_thumbnail", lambda *_: pytest.fail("opened a photo")
    )
    made = quick(images=False)
    assert (made.n_thumbnails, made.thumbnail_px, made.unreadable) == (0, None, [])
    assert data_of(made)["thumbnails"] == []


def test_photos_that_are_gone_or_have_changed_are_named_and_not_shown(photos, head, tmp_path):
    for name in os.listdir(photos):
        if name.endswith((".png", ".csv")):
            shutil.copy(photos / name, tmp_path / name)
    featstore.extract(
        tmp_path / "list.csv", tmp_path / "own.fstore", backbone=CountingBackbone(feature_dim=96)
    )
    table = featstore.FeatureStore(tmp_path / "own.fstore").table()
    gone, changed = (tmp_path / f"<img src=x onerror=alert({number})>.png" for number in (7, 8))
    gone.unlink()
    Image.new("RGB", (9, 9)).save(changed)
    made = featstore.report(head, table, tmp_path / "report.html", suspects=False)
    reasons = {one["path"]: one["reason"] for one in made.unreadable}
    assert set(reasons) == {str(gone), str(changed)}
    assert reasons[str(changed)] == "the file has changed since its features were extracted"
    assert made.n_thumbnails == made.n_images - 2
    assert "2 could not be read" in text_of(made)


def test_a_map_of_fewer_images_holds_those_of_the_lists(quick, table):
    made = quick(max_images=1)
    data = data_of(made)
    assert made.n_images < len(table)
    assert f"{made.n_images} of {len(table)} images by the two principal components" in re.sub(
        r"\s+", " ", text_of(made)
    )
    assert len(data["mistakes"]) == len(data_of(quick("all.html"))["mistakes"])


def test_many_classes_are_listed_by_the_pairs_that_are_confused(tmp_path):
    random = np.random.default_rng(1)
    (tmp_path / "many").mkdir()
    paths, labels = [], []
    for number in range(45 * 5):
        paths.append(str(tmp_path / "many" / f"{number}.png"))
        labels.append(f"class {number % 45:02d}")
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(paths[-1])
    with open(tmp_path / "many.csv", "w", encoding="utf-8") as file:
        file.writelines(
            f"{path},{label}\n" for path, label in [("path", "label"), *zip(paths, labels, strict=True)]
        )
    featstore.extract(tmp_path / "many.csv", tmp_path / "many.fstore", backbone=CountingBackbone())
    table = featstore.FeatureStore(tmp_path / "many.fstore").table()
    head = featstore.fit(table, head="centroid", rule=featstore.SplitRule(test=0.4))
    made = featstore.report(head, table, tmp_path / "report.html")
    page = text_of(made)
    assert "45 classes; the pairs that are confused most" in page
    assert 'class="matrix"' not in page
    assert (
        made.left_out["duplicates"]
        == made.left_out["outliers"]
        == "5 features are too few to recognise images"
    )
    assert page.count("Left out: 5 features are too few to recognise images") == 2


def test_a_learning_curve_and_the_sweep_are_drawn(quick, table):
    curve = featstore.learning_curve(table, head="ridge", fractions=[0.5], repeats=1)
    page = text_of(quick(curve=curve))
    for title in ("Learning curve", "Accuracy on validation by setting", "Calibration"):
        assert f"<figcaption>{title}" in page
    assert f"{curve.points[-1]['n_train']:,.0f} images" in page
    assert "<figcaption>Learning curve" not in text_of(quick("without.html"))


def test_what_is_there_and_what_is_no_page_is_refused(quick, photos, head, table):
    made = quick()
    with pytest.raises(OutputError, match="exists; name another file"):
        quick()
    assert quick(overwrite=True).n == made.n
    with pytest.raises(ReportError, match=r"a report ends in \.html or \.htm; found report\.pdf"):
        quick("report.pdf")
    with pytest.raises(ReportError, match="budget_mb must be a number above 0; found 0"):
        quick("other.html", budget_mb=0)
    with pytest.raises(ReportError, match="max_images must be at least 1; found 0"):
        quick("other.html", max_images=0)


def test_the_same_report_twice_is_the_same_file(made, head, table, tmp_path):
    again = featstore.report(head, table, tmp_path / "report.html")
    assert text_of(again) == text_of(made)


def test_a_map_by_umap_puts_images_beside_those_that_are_like_them():
    random = np.random.default_rng(0)
    of_class = np.repeat(np.arange(4), 40)
    X = random.normal(size=(4, 64))[of_class] + 0.5 * random.normal(size=(160, 64))
    found = project(X.astype(np.float32), "umap")
    assert found.shares is None
    distances = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of_class[distances.argmin(axis=1)] == of_class).mean() > 0.95
    assert np.array_equal(project(X.astype(np.float32), "umap").points, found.points)
    # Fewer than have neighbours enough.
    assert project(X[:5].astype(np.float32), "umap").shares is not None


def test_what_numba_compiles_is_kept_on_disk_where_it_can_be(tmp_path, monkeypatch):
    (tmp_path / "compiled_here.py").write_text("import numba\n\n@numba.njit\ndef add(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("compiled_here")
    unwritable = types.SimpleNamespace(enable_caching=mock.Mock(side_effect=RuntimeError("no locator")))
    module.another = unwritable
    keep_compiled(module)
    assert module.add(1) == 2
    assert list(tmp_path.rglob("compiled_here.add-*.nbi"))
    unwritable.enable_caching.assert_called_once_with()


def test_a_map_by_umap_prints_nothing_of_what_it_imports():
    code = (
        "import numpy as np; from featstore.reporting.projection import project; project(np.eye(5), 'umap')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout + told.stderr == ""


def test_there_is_no_other_map(head, table, tmp_path):
    with pytest.raises(ReportError, match="map_by must be one of pca, umap; found 'tsne'"):
        featstore.report(head, table, tmp_path / "report.html", map_by="tsne")
