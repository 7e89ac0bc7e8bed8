"""A gated head as layers of a network."""

from dataclasses import replace

import numpy as np
import pytest

from featstore.export.fusing import fuse
from featstore.export.writers import write_model
from featstore.heads.calibration import softmax
from featstore.heads.forms.gated import GatedForm, unit_rows
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm

keras = pytest.importorskip("keras")

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)


def network():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    means = keras.layers.GlobalAveragePooling2D()(keras.ops.cast(inputs, "float32"))
    return keras.Model(inputs, keras.layers.Rescaling(0.02)(means))


def linear(n_classes, seed):
    random = np.random.default_rng(seed)
    return LinearForm(coef=random.normal(size=(n_classes, 3)), intercept=random.normal(size=n_classes))


def gated(old, *, seed, n_old_neighbors):
    random = np.random.default_rng(seed)
    members = [[number, -1] for number in range(old.n_classes + 2)]
    # The last new class is the first old one, too.
    members[0][1] = members.pop()[0]
    return GatedForm(
        old=old,
        new=linear(2, seed),
        temperatures=np.array([0.5, 2.0]),
        weights=np.array([6.0, -0.3, -4.0 if n_old_neighbors else 0.0]),
        offset=np.array(0.2),
        neighbors=unit_rows(random.normal(size=(9, 3))),
        old_neighbors=unit_rows(random.normal(size=(n_old_neighbors, 3))),
        members=np.array(members)[::-1].copy(),
    )


def other(kind, dim):
    random = np.random.default_rng(7)
    if kind == "kernel":
        return KernelForm(
            mean=random.normal(size=dim),
            weight=np.ones(dim),
            gamma=np.array(0.3),
            rows=random.normal(size=(6, dim)).astype(np.float16),
            coef=random.normal(size=(6, 2)),
            intercept=np.zeros(2),
        )
    return NetworkForm(
        mean=random.normal(size=dim),
        hidden_coef=random.normal(size=(4, dim)),
        hidden_intercept=random.normal(size=4),
        coef=random.normal(size=(2, 4)),
        intercept=np.zeros(2),
    )


@pytest.mark.parametrize("kind", ["kernel", "network"])
@pytest.mark.parametrize("columns", [[1, 2], [2, 0]])
def test_new_classes_of_another_form_see_more_columns(kind, columns):
    form = replace(gated(linear(4, 1), seed=2, n_old_neighbors=5), new=other(kind, 3))
    old = LinearForm(coef=form.old.coef[:, :2], intercept=form.old.intercept)
    banks = {name: unit_rows(getattr(form, name)[:, :2]) for name in ("neighbors", "old_neighbors")}
    form = replace(form, old=old, old_columns=np.array(columns), **banks)
    model = network()
    wanted = softmax(form.scores(model.predict(PIXELS, verbose=0)) / 0.7)
    fused = fuse(model, form, centre=np.zeros(3), temperature=0.7)
    np.testing.assert_allclose(fused.predict(PIXELS, verbose=0), wanted, atol=1e-5)
    assert wanted.std(axis=0).max() > 0.01


@pytest.mark.parametrize("is_nested", [False, True])
def test_the_network_gives_the_forms_probabilities(is_nested):
    form = gated(linear(4, 1), seed=2, n_old_neighbors=5)
    if is_nested:
        form = gated(form, seed=3, n_old_neighbors=0)
    model = network()
    fused = fuse(model, form, centre=np.zeros(3), temperature=0.7)
    wanted = softmax(form.scores(model.predict(PIXELS, verbose=0)) / 0.7)
    np.testing.assert_allclose(fused.predict(PIXELS, verbose=0), wanted, atol=2e-5)
    assert wanted.std(axis=0).max() > 0.01


def test_a_written_network_is_the_same_without_featstore(tmp_path):
    fused = fuse(network(), gated(linear(4, 1), seed=2, n_old_neighbors=5), centre=np.zeros(3))
    write_model(fused, str(tmp_path), runtime="keras", essentials={})
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(PIXELS, verbose=0), fused.predict(PIXELS, verbose=0), atol=1e-6)
