"""`featstore forget` and `featstore verify --absent`."""

import json

import pytest
from click.testing import CliRunner

import featstore
from featstore.errors import CorrectionsError
from featstore_cli.main import main
from stored_tables import stored_table


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, table = stored_table("s.fstore", n=90)
    featstore.fit(table, head="centroid").save(store.head_path("one"))
    return store, table


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_it_shows_first_forgets_with_yes_and_proves_it(made):
    _, table = made
    content = str(table.content_hash[0])
    shown = run("forget", "s.fstore", content)
    assert (shown.exit_code, shown.stdout.splitlines()[0]) == (0, "to forget: 1 image")
    assert "nothing is removed yet" in shown.stderr
    found = run("verify", "s.fstore", "--absent", content)
    assert found.exit_code == 1
    assert "FOUND in" in found.stdout
    done = run("forget", "s.fstore", content, "--yes")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "forgotten: 1 image")
    assert f"featstore verify s.fstore --absent {content}" in done.stdout
    proof = run("verify", "s.fstore", "--absent", content, "--json")
    assert (proof.exit_code, json.loads(proof.stdout)["absent"]["traces"]) == (0, [])
    assert run("forget", "s.fstore", content).stdout == "the store holds nothing of 1 image\n"


def test_lists_name_images_by_hash_or_path(made, tmp_path):
    _, table = made
    hashes, paths = table.content_hash[:3].tolist(), [str(path) for path in table.paths[3:5]]
    (tmp_path / "a.csv").write_text("label,content_hash\n" + "".join(f"x,{one}\n" for one in hashes))
    (tmp_path / "b.txt").write_text("\n".join([*paths, hashes[0]]))
    report = json.loads(run("forget", "s.fstore", "a.csv", "b.txt", "--json").stdout)
    assert report["catalogs"] == {"photos": 5}
    assert (len(report["content_hashes"]), report["removed"]) == (5, False)


def test_what_is_not_found_is_named_and_the_rest_forgotten(made):
    _, table = made
    told = run("forget", "s.fstore", table.content_hash[0], "gone.jpg", "--yes")
    assert told.exit_code == 0
    assert "gone.jpg: not found, neither as a file nor in a catalog" in told.stderr
    assert told.stdout.startswith("forgotten: 1 image\n")
    refused = run("forget", "s.fstore", "gone.jpg")
    assert refused.exit_code == 1
    assert "gone.jpg cannot be read (no such file), and no catalog" in refused.stderr


def test_lists_that_cannot_be_used_are_refused(made, tmp_path):
    (tmp_path / "a.csv").write_text("label,size\nx,1\n")
    for words, message in {
        ("a.csv",): "neither a column content_hash nor path; its first line is label, size",
        ("gone.txt",): "cannot read the list gone.txt",
    }.items():
        refused = run("forget", "s.fstore", *words)
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert "repair the store first" in run("verify", "s.fstore", "--repair", "--absent", "0" * 64).stderr


def test_corrections_that_name_an_image_are_named(made):
    _, table = made
    content = str(table.content_hash[0])
    featstore.record_correction(
        "corrections.csv", featstore.Correction(content_hash=content, decision="exclude")
    )
    assert "corrections.csv names them on 1 line" in run("forget", "s.fstore", content).stdout


def test_a_broken_file_of_corrections_is_said_before_anything_goes(made, tmp_path):
    store, table = made
    (tmp_path / "corrections.csv").write_text("what is this")
    refused = run("forget", "s.fstore", table.content_hash[0], "--yes")
    assert refused.exit_code == 1
    assert "is no file of corrections" in refused.stderr
    with pytest.raises(CorrectionsError):
        featstore.read_corrections("corrections.csv")
    assert len(featstore.FeatureStore(store.path).table()) == 90
