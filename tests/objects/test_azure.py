"""Images and stores in Azure's Blob Storage, as its own emulator has it."""

import secrets

import pytest

import featstore
from fakes import CountingBackbone
from featstore.errors import SourceUnavailableError
from featstore.images import open_source


@pytest.fixture
def flowers(azure, photos):
    """The folder of photos in a container that anyone may read."""
    from obstore.store import AzureStore

    container = AzureStore("public", client_options={"allow_http": True})
    place = secrets.token_hex(8)
    for path in sorted(photos.rglob("*.*")):
        container.put(f"{place}/{path.relative_to(photos).as_posix()}", path.read_bytes())
    return f"az://public/{place}"


def extract(source, store):
    return featstore.extract(source, store, backbone=CountingBackbone(batch_size=2), catalog="photos")


def rows_of(store):
    table = featstore.FeatureStore(store).table()
    return dict(zip(map(bytes, table.content_hash_bytes), map(bytes, table.X), strict=True))


def test_images_and_store_in_containers_are_those_of_folders(flowers, photos, tmp_path):
    store = f"az://stores/{secrets.token_hex(8)}/photos.fstore"
    first, again = extract(flowers, store), extract(flowers, store)
    assert (first.extracted, first.failed) == (12, 1)
    assert (again.reused, again.read) == (12, 0)
    extract(photos, tmp_path / "local.fstore")
    assert rows_of(store) == rows_of(tmp_path / "local.fstore")
    head = featstore.fit(featstore.FeatureStore(store).table(), head="ridge")
    head.save(f"{store}/heads/ridge.head")
    assert featstore.load_head(f"{store}/heads/ridge.head").classes.tolist() == head.classes.tolist()
    featstore.FeatureStore(store).verify()


def test_a_public_container_needs_no_key(flowers, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    with pytest.raises(SourceUnavailableError, match="AZURE_SKIP_SIGNATURE=true"):
        open_source(flowers)
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    from featstore.io.remote.opening import forget_servers

    forget_servers()
    assert len(open_source(flowers).records) == 13


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("az://nowhere/flowers", "az://nowhere cannot be used: there is no such bucket"),
        ("az://public/nothing", "no image in"),
    ],
)
def test_what_is_not_there_is_named(azure, url, message):
    with pytest.raises(featstore.errors.SourceError, match=message):
        open_source(url)


def test_a_wrong_key_is_one_clear_error(azure, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(
        SourceUnavailableError, match=r"the credentials are refused \(403 AuthorizationFailure\)"
    ):
        open_source("az://stores/flowers")
