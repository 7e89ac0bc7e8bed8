"""A server of a head on photos with odd names, on a socket of this machine."""

import contextlib

import pytest

import featstore
from fakes import CountingBackbone
from featstore.serving import Limits, ServedModel
from featstore.serving.app import make_app
from page_material import chromium, head, photos, running_app, table

__all__ = ["chromium", "head", "photos", "predictor", "server", "serving", "table"]


@pytest.fixture(scope="session")
def predictor(head):
    return featstore.Predictor(head, backbone=CountingBackbone(feature_dim=96))


@contextlib.contextmanager
def running(models, limits, **options):
    """Serve models on a thread; yields the address."""
    with running_app(make_app(models, limits, **options)) as address:
        yield address


@pytest.fixture(scope="session")
def serving():
    return running


@pytest.fixture(scope="session")
def server(predictor, table):
    models = [
        ServedModel(name="ridge", predictor=predictor, table=table),
        ServedModel(name="<b>", predictor=predictor),
    ]
    hosts = ["127.0.0.1", "localhost"]
    limits = Limits(request_mb=0.5, megapixels=0.4, images=8, seconds=20)
    with running(models, limits, hosts=hosts) as address:
        yield address
