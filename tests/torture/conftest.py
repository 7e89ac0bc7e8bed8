import os

import pytest

from torture.harness import Workshop, end_launchers


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("shop"), n_pictures=24, tiny=True)


@pytest.fixture(scope="session", autouse=True)
def launchers():
    yield
    end_launchers()


@pytest.fixture(autouse=True)
def nothing_is_left_for_others(request):
    """The undisturbed store, which all tests share, stays as it was made."""
    if "shop" not in request.fixturenames:
        yield
        return
    store = request.getfixturevalue("shop").undisturbed
    before = files_of(store)
    yield
    assert files_of(store) == before


def files_of(store):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(store) for name in names)
