"""Backbones tried on a sample of one's own images."""

import json

import pytest
from click.testing import CliRunner

import featstore
from featstore.errors import BackboneError, SourceError
from featstore.images import write_digits
from featstore_cli.main import main


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suggestion") / "digits"
    write_digits(str(folder), n_images=120)
    return str(folder)


def test_backbones_are_timed_and_scored_and_others_are_named_with_their_reason(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    assert "ms/image" not in CliRunner().invoke(main, ["backbones"]).stdout
    arguments = ["backbones", "suggest", digits, "--backbone", "scattering", "--backbone", "no_such"]
    done = CliRunner().invoke(
        main, [*arguments, "--images", "40", "--plot", str(tmp_path / "p.svg"), "--json"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    (trial,) = found["trials"]
    assert (found["n_images"], found["n_classes"], found["frontier"]) == (40, 10, ["scattering"])
    assert trial["ms_per_image"] > 0
    assert trial["top1_ci"][0] <= trial["top1"] <= trial["top1_ci"][1]
    assert trial["top1"] > 0.4
    assert list(found["failures"]) == ["no_such"]
    assert "no_such was not tried: no backbone is called" in done.stderr
    assert "scattering" in (tmp_path / "p.svg").read_text()
    # And known from then on.
    assert featstore.measured_speeds() == {"scattering": trial["ms_per_image"]}
    listed = CliRunner().invoke(main, ["backbones"]).stdout.splitlines()
    assert listed[0].split()[-1] == "ms/image"
    assert {line.split()[0]: line.split()[-1] for line in listed[1:]}[
        "scattering"
    ] == f"{trial['ms_per_image']:.1f}"
    shown = json.loads(CliRunner().invoke(main, ["backbones", "--json"]).stdout)
    assert [one["name"] for one in shown if one["ms_per_image"]] == ["scattering"]


def test_weights_that_keras_has_fetched_are_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert featstore.backbones_at_hand() == ("scattering",)
    (tmp_path / "models").mkdir()
    for name in (
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "efficientnetv2-b0_notop.h5",
        "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    ):
        (tmp_path / "models" / name).touch()
    expected = ("scattering", "efficientnet_v2_b0", "mobilenet_v2", "resnet50_v2")
    assert featstore.backbones_at_hand() == expected


def test_what_cannot_be_compared_is_refused(digits, tmp_path):
    with pytest.raises(BackboneError, match="no_such: no backbone"):
        featstore.suggest_backbones(digits, ["no_such"])
    with pytest.raises(SourceError, match="at least 16 images"):
        featstore.suggest_backbones(digits, ["scattering"], n_images=3)
    with pytest.raises(SourceError, match=r"found 0 such classes among .* images, of which"):
        featstore.suggest_backbones(f"{digits}/7", ["scattering"])
