"""A report on photos with odd names."""

import pytest

import featstore
from page_material import chromium, head, photos, table

__all__ = ["chromium", "head", "made", "photos", "table"]


@pytest.fixture(scope="session")
def made(head, table, tmp_path_factory):
    """The whole report."""
    return featstore.report(head, table, tmp_path_factory.mktemp("made") / "report.html")
