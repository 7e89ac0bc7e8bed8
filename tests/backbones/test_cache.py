import os

import pytest

from featstore.backbones.caches.cache import remember, remember_network
from featstore.backbones.caches.listing import cache_contents, clear_cache
from featstore.errors import StoreError


def convert(path):
    for ending, size in ((".xml", 10), (".bin", 1000)):
        with open(path.replace(".xml", ending), "wb") as file:
            file.write(bytes(size))
    return {"feature_dim": 3}


@pytest.fixture
def filled(cache):
    key = {"architecture": "mobilenet_v2", "layer": "out_relu", "size_px": [224, 224]}
    remember_network(key, convert)
    remember("weights", {"name": "w"}, {"digest": "d"})
    (cache / "notes.txt").write_text("of somebody else")
    return cache


def test_what_is_kept_is_listed(filled):
    contents = cache_contents()
    [network] = contents.networks
    assert (network.architecture, network.layer, network.size_px) == ("mobilenet_v2", "out_relu", (224, 224))
    assert network.n_bytes > 1010
    assert contents.n_entries == 1
    assert contents.n_bytes > network.n_bytes
    assert contents.to_dict()["folder"] == str(filled)


def test_clearing_removes_it_and_nothing_of_others(filled):
    removed = clear_cache()
    assert removed.n_entries == 1
    assert sorted(os.listdir(filled)) == ["notes.txt"]
    assert cache_contents().n_bytes == 0


def test_an_empty_cache_folder_goes_too_and_none_is_no_error(cache):
    remember("weights", {"name": "w"}, {"digest": "d"})
    clear_cache()
    assert not cache.exists()
    assert clear_cache().n_bytes == 0


def test_an_interrupted_conversion_is_listed_and_removed(cache):
    folder = cache / "networks" / (64 * "a")
    folder.mkdir(parents=True)
    (folder / "network.xml").write_bytes(bytes(7))
    [network] = cache_contents().networks
    assert (network.architecture, network.n_bytes) == ("", 7)
    clear_cache()
    assert not folder.exists()


def test_a_link_in_the_caches_place_is_removed_and_not_followed(cache, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(b"x")
    cache.mkdir()
    (cache / "networks").symlink_to(tmp_path / "photos")
    clear_cache()
    assert (tmp_path / "photos" / "1.jpg").exists()


def test_what_cannot_be_removed_is_named(filled, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(StoreError, match=r"networks.* cannot be removed: Permission denied"):
        clear_cache()
