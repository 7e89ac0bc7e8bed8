import numpy as np
import pytest

from featstore.heads import fit


@pytest.mark.parametrize("name", ["lda", "logistic", "ridge", "sgd", "svm"])
def test_what_only_rounding_changes_is_no_feature(make_table, make_blobs, name):
    X, y = make_blobs(spread=2.0)
    ulps = np.random.default_rng(0).integers(-2, 3, len(X))
    X = np.column_stack([X, np.float32(-4.605) + ulps * np.spacing(np.float32(4.605))]).astype(np.float32)
    head = fit(make_table(X, y), head=name)
    other = X.copy()
    other[:, -1] = np.float32(-4.605) + 4 * np.spacing(np.float32(4.605))

    np.testing.assert_allclose(head.predict_proba(other), head.predict_proba(X), atol=1e-4)
