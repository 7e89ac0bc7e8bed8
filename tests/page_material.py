"""What the tests of pages share: photos with odd names, a store of them, a head, and a browser."""

import contextlib
import csv
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

import featstore
from browsers import LACKING, browser
from fakes import CountingBackbone

LABELS = ("<script>alert(1)</script>", "a & 'b' \"c\"", "plain")
N_IMAGES = 240


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder with photos, their list, a store and a head.

    One photo has no label, one has another's, two are the same file in train and test.
    """
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    rows = []
    for number in range(N_IMAGES):
        of_class = number % 3
        pixels = random.normal(110, 40, (12, 16, 3))
        pixels[:, :, of_class] += 8
        name = f"<img src=x onerror=alert({number})>.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        rows.append([name, LABELS[of_class], ""])
    shutil.copy(folder / rows[0][0], folder / "copy.png")
    rows.append(["copy.png", LABELS[0], "test"])
    rows[0][2] = "train"
    rows[4][1], rows[5][1] = LABELS[2], ""
    with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    featstore.extract(
        folder / "list.csv", folder / "photos.fstore", backbone=CountingBackbone(feature_dim=96)
    )
    store = featstore.FeatureStore(folder / "photos.fstore")
    rule = featstore.SplitRule(test=0.3)
    featstore.fit(store.table(), head="ridge", rule=rule).save(store.head_path("ridge"))
    return folder


@pytest.fixture(scope="session")
def table(photos):
    return featstore.FeatureStore(photos / "photos.fstore").table()


@pytest.fixture(scope="session")
def head(photos):
    return featstore.Head.load(photos / "photos.fstore" / "heads" / "ridge.head")


@pytest.fixture(scope="session")
def chromium():
    if LACKING:
        pytest.skip(LACKING)
    with browser() as driver:
        yield driver


@contextlib.contextmanager
def running_app(app):
    """Serve an application on a thread; yields the address."""
    import uvicorn

    from featstore.serving import bound_socket

    with bound_socket("127.0.0.1", 0, token=None) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield "http://{}:{}".format(*bound.getsockname())
        finally:
            server.should_exit = True
            thread.join()
