"""Heads made of class names by a text tower: zero-shot classification."""

import shlex

import numpy as np
import pytest
from click.testing import CliRunner

import featstore
from featstore import import_text_head
from featstore.errors import BackboneError, HeadError
from featstore_cli.main import main
from tower_material import COLOURS, LOGIT_SCALE, paint, write_image_tower, write_text_tower, write_tokenizer

pytest.importorskip("tokenizers", reason='needs tokenizers: pip install "featstore[texts]"')

IMAGE = {"preprocess": "unit"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    paint(folder / "colours")
    write_image_tower(folder / "image.onnx")
    write_text_tower(folder / "text.onnx")
    write_tokenizer(folder / "tokenizer.json")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    featstore.extract(folder / "colours", folder / "colours.fstore", backbone=folder / "image.onnx", **IMAGE)
    return folder


@pytest.fixture
def towers(made):
    return {
        "backbone": made / "image.onnx",
        "texts": made / "labels.txt",
        "text_model": made / "text.onnx",
        "tokenizer": made / "tokenizer.json",
        **IMAGE,
    }


def embedded(text):
    rows = [COLOURS.get(word, (0.05,) * 3) for word in text.split()]
    total = np.sum(rows, axis=0)
    return total / np.linalg.norm(total)


def test_scores_are_cosines_times_the_logit_scale(made, towers):
    head = import_text_head(**towers)
    assert head.classes.tolist() == ["blue", "green", "red"]
    X = np.random.default_rng(0).uniform(0, 1, (5, 3)).astype(np.float32)
    texts = np.stack([embedded(f"a photo of a {name}") for name in head.classes])
    scores = LOGIT_SCALE * (X / np.linalg.norm(X, axis=1, keepdims=True)) @ texts.T
    wanted = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(X), wanted, atol=1e-5)
    np.testing.assert_allclose(head.estimator.predict_proba(X), wanted, atol=1e-5)
    other = import_text_head(**towers, logit_scale=5.0, templates=["{}", "a {}"])
    texts = np.stack([embedded(name) + embedded(f"a {name}") for name in head.classes])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(other.linear.coef, 5 * texts, atol=1e-5)


def test_a_tower_of_a_fixed_number_of_tokens_gives_the_same(made, towers, tmp_path):
    write_text_tower(tmp_path / "fixed.onnx", length=8)
    wanted = import_text_head(**towers).linear.coef
    for options in ({"text_model": tmp_path / "fixed.onnx"}, {"text_length": 9}):
        np.testing.assert_allclose(import_text_head(**{**towers, **options}).linear.coef, wanted, atol=1e-6)
    write_tokenizer(tmp_path / "tokenizer.json", pads=False)
    with pytest.raises(BackboneError, match=r"padded to 8 tokens.*tokenizer_config\.json"):
        import_text_head(
            **{**towers, "text_model": tmp_path / "fixed.onnx", "tokenizer": tmp_path / "tokenizer.json"}
        )


def test_descriptions_stand_in_for_names(towers, tmp_path):
    (tmp_path / "labels.txt").write_text("n1\tred\nn2\tblue\n")
    by_file = import_text_head(**{**towers, "texts": tmp_path / "labels.txt"})
    by_mapping = import_text_head(**{**towers, "texts": {"n1": "red", "n2": "blue"}})
    assert by_file.classes.tolist() == ["n1", "n2"]
    np.testing.assert_array_equal(by_file.linear.coef, by_mapping.linear.coef)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"templates": ["a photo"]}, HeadError, "has {} once"),
        ({"logit_scale": -1.0}, HeadError, "above 0"),
        ({"texts": ["red", "red"]}, HeadError, "'red' more than once"),
        ({"text_output": "nothing"}, BackboneError, "no tensor 'nothing'"),
        ({"text_model": "image.onnx"}, BackboneError, "no text tower.*pixel_values"),
        ({"text_model": "labels.txt"}, BackboneError, "a text model is an ONNX model"),
        ({"tokenizer": "labels.txt"}, BackboneError, r"is no tokenizer\.json"),
        ({"tokenizer": "none.json"}, BackboneError, "no model file at"),
    ],
)
def test_what_does_not_fit_is_named(made, towers, change, error, message):
    places = {name: made / one for name, one in change.items() if name in ("text_model", "tokenizer")}
    with pytest.raises(error, match=message):
        import_text_head(**{**towers, **change, **places})


def test_towers_of_different_width_are_refused(towers, tmp_path):
    write_text_tower(tmp_path / "wide.onnx", n_features=5)
    with pytest.raises(HeadError, match=r"gives 5 numbers for a text, and onnx-.* 3 for an image"):
        import_text_head(**{**towers, "text_model": tmp_path / "wide.onnx"})


@pytest.fixture
def run(made, monkeypatch):
    monkeypatch.chdir(made)

    def invoke(line, code=0):
        result = CliRunner().invoke(main, shlex.split(line))
        assert result.exit_code == code, result.output
        return result

    return invoke


TOWERS = "--backbone image.onnx --preprocess unit --texts labels.txt --text-model text.onnx --tokenizer tokenizer.json"


def test_the_commands_go_on_from_it(run, tmp_path):
    assert "classes  3: blue, green, red" in run(f"import-head {TOWERS} -o names").stdout
    assert "accuracy 100.0%" in run("evaluate names").stdout
    assert run("predict names colours/red/00.png").stdout.startswith("colours/red/00.png\tred")
    assert "probabilities: float32 (n, 3)" in run(f"export names {tmp_path}/model --format openvino").stdout
    paint(tmp_path / "more", ["yellow"], n_images=30, seed=1)
    run(f"extract {tmp_path}/more --store colours.fstore --backbone image.onnx --preprocess unit")
    run("extend names --catalog more --old-catalog colours -o more")
    assert featstore.Head.load("colours.fstore/heads/more.head").classes.tolist() == [
        "blue",
        "green",
        "red",
        "yellow",
    ]


def test_options_that_belong_together_are_asked_for_together(run):
    assert "add --text-model and --tokenizer" in run("import-head --texts labels.txt", 2).stderr
    assert "leave it out with --texts" in run(f"import-head {TOWERS} --classes labels.txt", 2).stderr
