"""Heads know the catalogs that they were fitted on, and a store says which of these have changed since."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import featstore
from featstore.store import summary
from featstore.store.catalogs import digests
from featstore.store.catalogs import file as catalog_file
from featstore.store.catalogs.columns import open_columns
from featstore.store.catalogs.digests import digest_of_catalog, digest_of_columns
from stored_tables import stored_table


@pytest.fixture
def store(tmp_path):
    store, table = stored_table(tmp_path / "s.fstore", n=90)
    featstore.fit(table, head="centroid").save(store.head_path("one"))
    return store


def head_of(store):
    [head] = store.info()["heads"]
    return head["catalogs"], head["up_to_date"]


def change(store, **columns):
    store.update_catalog("photos", lambda current: replace(current, **columns))


def test_a_head_is_up_to_date_until_its_catalog_changes(store):
    assert head_of(store) == ({"photos": "unchanged"}, True)
    known = store.catalog("photos")
    change(store, labels=["other", *known.labels[1:]])
    assert head_of(store) == ({"photos": "changed"}, False)
    change(store, labels=known.labels)
    assert head_of(store) == ({"photos": "unchanged"}, True)


@pytest.mark.parametrize(
    "columns",
    [
        {"groups": ["one", *[None] * 89]},
        {"near_groups": ["one", *[None] * 89]},
        {"splits": ["test", *[None] * 89]},
        {"weights": [2.0, *[np.nan] * 89]},
        {"reasons": ["broken", *[None] * 89]},
        {"label_separator": "|"},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_whatever_a_fit_takes_of_a_catalog_counts(store, columns):
    change(store, **columns)
    assert head_of(store) == ({"photos": "changed"}, False)


def test_names_places_and_order_of_files_do_not_count(store):
    known = store.catalog("photos")
    order = np.random.default_rng(0).permutation(len(known))
    mixed = {
        name: [getattr(known, name)[row] for row in order]
        for name in ("labels", "groups", "splits", "reasons", "sizes")
    }
    change(
        store,
        root="/elsewhere",
        paths=[f"{number}.jpg" for number in range(len(known))],
        content_hash=known.content_hash[order],
        mtimes_ns=np.zeros(len(known)),
        **mixed,
    )
    assert head_of(store) == ({"photos": "unchanged"}, True)


def test_the_digest_of_a_file_is_that_of_the_catalog_in_it(store):
    change(
        store,
        labels=[None, "ü", *store.catalog("photos").labels[2:]],
        weights=[2.0, *[np.nan] * 89],
        reasons=[None, None, "broken", *[None] * 87],
        near_groups=["b", "a", *[None] * 88],
    )
    with open_columns(store.catalog_path("photos")) as columns:
        assert digest_of_columns(columns) == digest_of_catalog(store.catalog("photos"))


def test_a_file_has_its_digest_and_no_table_computes_it(store, monkeypatch):
    digest = digest_of_catalog(store.catalog())
    with open_columns(store.catalog_path("photos")) as columns:
        assert columns.attribute("digest") == digest
    refuse = mock.Mock(side_effect=AssertionError("computed"))
    monkeypatch.setattr(digests, "digest_of_catalog", refuse)
    monkeypatch.setattr(summary, "digest_of_columns", refuse)
    assert store.table().catalog_digests["photos"] == digest
    assert store.info()["catalogs"][0]["digest"] == digest


def test_of_an_older_file_it_is_computed_when_it_is_asked_for(monkeypatch):
    store = featstore.FeatureStore(Path(__file__).parent.parent / "golden" / "0.5" / "golden.fstore")
    with open_columns(store.catalog_path(store.catalog_names[0])) as columns:
        assert not columns.has_attribute("digest")
        wanted = digest_of_columns(columns)
    counting = mock.Mock(side_effect=digest_of_catalog)
    monkeypatch.setattr(digests, "digest_of_catalog", counting)
    table = store.table(store.space_names[0]).select(slice(0, 2))
    assert counting.call_count == 0
    assert (
        [*table.catalog_digests.values()] == [*table.without_weights().catalog_digests.values()] == [wanted]
    )
    assert counting.call_count == 1
    assert store.info()["catalogs"][0]["digest"] == wanted
    assert store.verify().ok


def test_a_changed_catalog_does_not_keep_the_digest_of_its_file(store):
    known = store.catalog()
    assert known.digest
    assert replace(known, labels=["x"] * len(known)).digest == ""


def test_a_digest_that_is_wrong_is_damage(store, monkeypatch):
    monkeypatch.setattr(catalog_file, "digest_of_catalog", lambda catalog: "0" * 64)
    change(store, location="/elsewhere")
    [damage] = store.verify().damaged
    assert damage.reason == "its digest is not that of its images and labels"


def test_a_digest_is_the_same_in_every_version(store):
    digest = "9e611fe69ad84731a70640eb6d7c879abb81dfb57e80263ffd11e486a11539b8"
    assert store.info()["catalogs"][0]["digest"] == digest


def test_a_catalog_that_is_gone_is_missing(store):
    store.write_catalog(replace(store.catalog("photos"), name="others"))
    os.remove(store.catalog_path("photos"))
    assert head_of(store) == ({"photos": "missing"}, False)


def test_of_a_head_without_digests_it_is_unknown(store):
    path = store.head_path("one")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    del manifest["catalog_digests"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, content in members.items():
            archive.writestr(name, content)
    assert featstore.Head.load(path).catalog_digests == {}
    assert head_of(store) == ({"photos": "unknown"}, None)


def test_a_head_that_cannot_be_read_says_nothing(store):
    with open(store.head_path("one"), "wb") as file:
        file.write(b"PK\x03\x04 nothing")
    assert head_of(store) == ({}, None)


def test_selected_rows_have_the_digest_of_their_catalog(store):
    table = store.table()
    some = table.select(slice(0, 60)).without_weights()
    assert some.catalog_digests == table.catalog_digests == {"photos": digest_of_catalog(store.catalog())}


def test_an_edited_head_keeps_what_it_was_fitted_on(store):
    head = featstore.Head.load(store.head_path("one"))
    edited = featstore.edit_classes(head, rename={str(head.classes[0]): "renamed"})
    edited.save(store.head_path("one"))
    assert head_of(store) == ({"photos": "unchanged"}, True)
