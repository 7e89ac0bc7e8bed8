import pytest

from torture.harness import Workshop


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    made = Workshop(tmp_path_factory.mktemp("shop"), n_pictures=24, tiny=True)
    yield made
    made.close()
