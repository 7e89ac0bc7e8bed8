"""The gate between old and new classes where no old photos are at hand."""

import numpy as np

from featstore.extending.gate import Gate
from featstore.extending.naming import name_classes
from featstore.extending.samples import Samples
from featstore.heads.forms.gated import evidence, unit_rows

from .gaussians import NEW, OLD, new_photos, old_head


def test_without_old_photos_likeness_to_new_ones_weighs_twice_as_much_as_the_old_score():
    table, old = new_photos(), old_head().linear
    _, y = np.unique(table.y, return_inverse=True)
    samples = Samples(X=table.X, y=y, folds=np.full(len(y), -1))
    gate = Gate.fit(
        old,
        old_head().linear,
        samples,
        samples.subset(np.zeros(len(y), bool)),
        naming=name_classes(OLD, NEW, same={}, catalog="new"),
        temperatures=(1.0, 1.0),
    )
    bank = unit_rows(table.X)
    inputs = evidence(table.X, old.scores(table.X), bank, bank[:0], own=(np.arange(len(y)), None))
    deviations = inputs.std(axis=0)
    np.testing.assert_allclose(gate.form.weights[:2] * deviations[:2], [2, -1])
    assert gate.form.weights[2] == 0
    # A new photo as any other is as likely new as old.
    np.testing.assert_allclose(inputs.mean(axis=0) @ gate.form.weights + gate.form.offset, 0, atol=1e-9)
