import json

from click.testing import CliRunner

from featstore.backbones.caches.cache import remember
from featstore_cli.main import main


def test_the_cache_is_shown_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path / "cache"))
    remember("weights", {"name": "w"}, {"digest": "d"})
    shown = CliRunner().invoke(main, ["cache"])
    assert shown.exit_code == 0
    assert f"folder   {tmp_path / 'cache'}" in shown.stdout
    told = json.loads(CliRunner().invoke(main, ["cache", "--json"]).stdout)
    assert (told["n_entries"], told["networks"], told["cleared"]) == (1, [], False)
    cleared = CliRunner().invoke(main, ["cache", "--clear"])
    assert "removed" in cleared.stdout
    assert not (tmp_path / "cache").exists()


def test_what_others_keep_in_the_same_place_is_neither_counted_nor_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATSTORE_CACHE", str(tmp_path))
    mine = [tmp_path / kind / "mine.h5" for kind in ("weights", "networks", "files")]
    for path in mine:
        path.parent.mkdir()
        path.write_bytes(b"mine")
    remember("weights", {"name": "w"}, {"digest": "d"})
    told = json.loads(CliRunner().invoke(main, ["cache", "--clear", "--json"]).stdout)
    assert (told["n_entries"], told["networks"]) == (1, [])
    assert [path.read_bytes() for path in mine] == [b"mine"] * 3
    assert not list(tmp_path.glob("weights/*.json"))
