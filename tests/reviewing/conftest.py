"""A review of photos with odd names, on a socket of this machine."""

import pytest

from page_material import chromium, head, photos, running_app, table

__all__ = ["chromium", "head", "photos", "session", "table"]


@pytest.fixture
def session(head, table, tmp_path):
    from featstore.reviewing import ReviewSession

    return ReviewSession(head, table, tmp_path / "corrections.csv", who="Ada", most=4)


@pytest.fixture
def server(session):
    from featstore.reviewing.app import make_app

    with running_app(make_app(session, hosts=["127.0.0.1"])) as address:
        yield address
