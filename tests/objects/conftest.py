"""A bucket on a real server, and the environment that leads to it."""

import secrets

import pytest
from azure_server import ACCOUNT, KEY, azurite, azurite_command, make_container

from featstore.io.remote import failures
from featstore.io.remote.opening import forget_servers
from featstore.io.storage.opening import forget_buckets
from object_server import Server, moto_python, moto_server, passed_on
from pictures import write_broken, write_picture

BUCKET = "photos"
KEYS = [f"{label}/{number}.png" for label in ("daisy", "roses", "tulips") for number in range(4)]


@pytest.fixture(scope="session")
def moto_port(request):
    pytest.importorskip("obstore")
    try:
        python = moto_python(request.config.cache.mkdir("moto"))
    except RuntimeError as error:
        pytest.skip(f"no S3 server to test against: {error}")
    with moto_server(python) as port:
        yield port


@pytest.fixture(scope="session")
def azure_url(request):
    pytest.importorskip("obstore")
    try:
        command = azurite_command(request.config.cache.mkdir("azurite"))
    except RuntimeError as error:
        pytest.skip(f"no Azure server to test against: {error}")
    with azurite(command) as url:
        make_container(url, "stores")
        make_container(url, "public", is_public=True)
        yield url


@pytest.fixture
def azure(azure_url, monkeypatch, tmp_path):
    """A server of Azure's with the containers ``stores`` and ``public``, and no copies of its objects here."""
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", azure_url)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    return azure_url


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(failures, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(failures, "_SHORTEST_S", 0.01)
    forget_servers()
    forget_buckets()
    yield
    forget_servers()
    forget_buckets()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of a class each, with a broken file and one that is no image."""
    folder = tmp_path_factory.mktemp("local") / "photos"
    for number, key in enumerate(KEYS):
        write_picture(folder / key, number)
    write_broken(folder / "roses" / "broken.png")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def s3_server(moto_port):
    server = Server(passed_on(moto_port)).start()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server, photos, monkeypatch):
    """A server with the bucket ``photos``, which holds that folder below ``flowers/``."""
    from obstore.store import S3Store

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    s3_server.fault = None
    # Whoever asks is let in, unless a test says otherwise.
    s3_server.ask("POST", "/moto-api/reset-auth", "inf")
    s3_server.ask("POST", "/moto-api/reset")
    assert s3_server.ask("PUT", f"/{BUCKET}") == 200
    store = S3Store(BUCKET, client_options={"allow_http": True})
    for path in sorted(photos.rglob("*.*")):
        store.put(f"flowers/{path.relative_to(photos).as_posix()}", path.read_bytes())
    s3_server.bucket = store
    s3_server.requests.clear()
    return s3_server


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path):
    """An empty place in a bucket for stores, and no copies of its objects here."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    s3_server.fault = None
    s3_server.ask("POST", "/moto-api/reset-auth", "inf")
    assert s3_server.ask("PUT", "/stores") == 200
    s3_server.requests.clear()
    return f"s3://stores/{secrets.token_hex(8)}"
