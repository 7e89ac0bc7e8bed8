"""ImageNet's own classes on real photos with real weights, where they lie beside the checkout."""

import shutil
from pathlib import Path

import pytest

import featstore
from featstore.errors import WeightsError
from featstore.extending.imagenet import imagenet_classes

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOP = DATA / "weights" / "mobilenet_v2_1.0_224.h5"
NO_TOP = DATA / "weights" / "mobilenet_v2_1.0_224_no_top.h5"

pytestmark = pytest.mark.skipif(not TOP.exists(), reason="needs the real weights beside the checkout")


@pytest.fixture(scope="module")
def head():
    return featstore.import_head("mobilenet_v2", weights=TOP)


@pytest.fixture(scope="module")
def samples(real_features, tmp_path_factory):
    """The sample photos in a store, by weights without the classifier, labelled by a list."""
    folder = tmp_path_factory.mktemp("samples")
    photos = sorted((DATA / "imagenet_samples").glob("*.JPEG"))
    rows = [f"{path},{imagenet_classes()[int(path.name[:3])]}\n" for path in photos]
    (folder / "samples.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
    shutil.copytree(real_features, folder / "s.fstore")
    featstore.extract(folder / "samples.csv", folder / "s.fstore", backbone="mobilenet_v2", weights=NO_TOP)
    return featstore.FeatureStore(folder / "s.fstore")


def test_it_is_right_on_the_sample_photos(head, samples):
    evaluation = featstore.evaluate(head, samples.table(), split="all")
    assert evaluation.n == 300
    assert evaluation.top1 >= 0.85
    assert evaluation.top5 is not None
    assert evaluation.top5 >= 0.96


@pytest.mark.parametrize("runtime", ["onnx", "keras"])
def test_exported_it_labels_a_photo_as_the_head_does(runtime, head, samples, tmp_path):
    if runtime == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("tf2onnx")
    model = featstore.export_head(
        head, tmp_path / "model", format=runtime, table=samples.table().select(slice(60))
    )
    assert model.description.verification["largest_difference"] < 1e-3
    (shark,) = (DATA / "imagenet_samples").glob("002_*.JPEG")
    (prediction,) = featstore.predict(tmp_path / "model", [shark])
    assert prediction.label == "great_white_shark"
    card = (tmp_path / "model" / "model_card.md").read_text()
    assert card.startswith("# mobilenet\\_v2: 1000 classes of images")
    assert "head: imported, the network's own classifier" in card


def test_it_labels_a_photo_of_a_file_without_the_networks_classifier(head):
    (shark,) = (DATA / "imagenet_samples").glob("002_*.JPEG")
    (prediction,) = featstore.predict(head, [shark], weights=NO_TOP)
    assert prediction.label == "great_white_shark"


def test_a_file_without_the_top_is_refused_by_its_name():
    with pytest.raises(WeightsError, match=r"_no_top.h5 holds mobilenet_v2 without its classifier"):
        featstore.import_head("mobilenet_v2", weights=NO_TOP)
