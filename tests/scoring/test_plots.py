import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from featstore.errors import MissingExtraError, OutputError, PlotError
from featstore.heads import fit
from featstore.scoring import evaluate, learning_curve, plot, save_plot
from featstore.scoring.plotting.plots import check_plot_path


@pytest.fixture
def noisy(make_table, make_blobs):
    return make_table(*make_blobs(n=600, n_classes=3, spread=2.0))


def results_of(table):
    head = fit(table)
    curve = learning_curve(table, params={"C": 0.1}, fractions=(0.125, 0.25, 0.5), repeats=2)
    return {"evaluation": evaluate(head, table), "sweep": head, "curve": curve}


def test_every_result_is_drawn_into_every_kind_of_file(noisy, tmp_path):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for name, result in results_of(noisy).items():
        for ending, begin in begins.items():
            path = tmp_path / f"{name}.{ending}"
            save_plot(result, path)
            assert path.read_bytes().startswith(begin)
    assert not list(tmp_path.glob(".tmp-*"))


def test_pyplot_is_left_alone():
    program = (
        "import sys; from featstore.scoring.plotting import figures, plots\n"
        "figures.new_figure(3, 3).savefig('/dev/null', format='png')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("n_classes", [2, 5, 12, 40, 130])
def test_nothing_is_cut_off_at_any_number_of_classes(make_table, make_blobs, n_classes):
    X, y = make_blobs(n=30 * n_classes, n_classes=n_classes, spread=0.5)
    table = make_table(X, [f"a long $name$ for the {label}" for label in y])
    figure = plot(evaluate(fit(table, params={"C": 0.1}), table, split="all"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    inside = figure.bbox
    for axes in figure.get_axes():
        box = axes.get_tightbbox(canvas.get_renderer())
        assert box.x0 >= inside.x0 - 1
        assert box.y0 >= inside.y0 - 1
        assert box.x1 <= inside.x1 + 1
        assert box.y1 <= inside.y1 + 1


def test_bins_of_few_images_are_fainter(noisy):
    evaluation = evaluate(fit(noisy), noisy, split="train")
    counts = [one["n"] for one in evaluation.to_dict()["calibration"] if one["n"]]
    diagram = next(axes for axes in plot(evaluation).get_axes() if "calibration error" in axes.get_title())
    alphas = [bars.patches[0].get_alpha() for bars in diagram.containers if getattr(bars, "patches", None)]
    assert len(alphas) == len(counts)
    assert max(counts) >= 20 > min(counts)
    assert alphas[int(np.argmin(counts))] < alphas[int(np.argmax(counts))] == 0.45


def test_a_picture_is_large_enough_to_read(noisy, tmp_path):
    save_plot(evaluate(fit(noisy), noisy), tmp_path / "scores.png")
    with Image.open(tmp_path / "scores.png") as picture:
        assert min(picture.size) >= 700


def test_a_failure_leaves_the_file_that_was_there(noisy, tmp_path):
    (tmp_path / "sweep.png").write_bytes(b"before")
    with pytest.raises(PlotError, match="has no sweep"):
        save_plot(fit(noisy, params={"C": 0.1}), tmp_path / "sweep.png", overwrite=True)
    assert (tmp_path / "sweep.png").read_bytes() == b"before"


@pytest.mark.parametrize("name", ["scores.jpg", "scores", "scores.png.gz"])
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(PlotError, match=r"must end in \.pdf, \.png, \.svg; found scores"):
        check_plot_path(tmp_path / name)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(OutputError, match="no folder"):
        check_plot_path(tmp_path / "nowhere" / "scores.png")


def test_what_is_no_result_is_refused():
    with pytest.raises(PlotError, match="found dict"):
        plot({})


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "featstore\[plot\]"'):
        check_plot_path(tmp_path / "scores.png")
