"""What notebooks show of results."""

import re

import numpy as np
import pytest

from fake_tables import blobs, table_of
from featstore import compare, cross_evaluate, evaluate, find_duplicates, find_suspects, fit, learning_curve
from featstore.notebook_table import html_table

NASTY = '<script>alert("1")</script> & more'


@pytest.fixture(scope="module")
def table():
    X, y = blobs(n=240, n_classes=3, spread=2.0)
    made = table_of(X, np.where(y == "class 0", NASTY, y))
    hashes = made.content_hash_bytes.copy()
    hashes[1] = hashes[0]
    return made.but(content_hash_bytes=hashes)


@pytest.mark.parametrize(
    "result_of",
    [
        lambda table: evaluate(fit(table, params={"C": 1.0}), table),
        lambda table: cross_evaluate(table, params={"C": 1.0}, folds=2),
        lambda table: compare([fit(table, params={"C": c}) for c in (0.1, 1.0)], table, names=["<a>", "b"]),
        lambda table: learning_curve(table, params={"C": 1.0}, fractions=[0.5], repeats=1),
        lambda table: find_suspects(table, params={"C": 1.0}, folds=3),
        find_duplicates,
    ],
)
def test_a_result_is_a_table_with_all_texts_escaped(table, result_of):
    shown = result_of(table)._repr_html_()
    assert shown.startswith("<table><caption>")
    assert shown.count("<table>") == shown.count("</table>")
    assert not re.search(r"<(?!/?(table|caption|thead|tbody|tr|th|td)\b)", shown)


def test_long_tables_say_how_much_more_there_is():
    shown = html_table("all", ("n",), [(number,) for number in range(60)])
    assert "… and 10 more" in shown
    assert shown.count("<tr>") == 52
