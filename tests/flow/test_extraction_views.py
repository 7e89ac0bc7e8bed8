"""Several views of each image: what passes the backbone, what is read, and what is found again."""

import os
import random
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

import featstore
from fakes import CountingBackbone
from featstore.backbones.engines.compiling import _network_key
from featstore.errors import BackboneError, ExtractionError, ViewError
from featstore.flow.extraction import ExtractionInterrupted
from featstore.hashing import content_hash
from featstore.images.decode import decode_views, iter_views
from featstore.images.views import ViewRecipe

RECIPE = ViewRecipe(flip=True, random_crop=20, random_brightness=20)
N_IMAGES = 6


@pytest.fixture
def photos(tmp_path):
    for number in range(N_IMAGES):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    return tmp_path / "photos"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "photos.fstore"


@pytest.fixture
def opened(monkeypatch):
    """The files that are read, one entry each time; and how often one is decoded."""
    counts = {"read": [], "decoded": 0}
    lock = threading.Lock()

    def counted(*arguments, **options):
        pixels = iter_views(*arguments, **options)
        for number, seen in enumerate(pixels):
            with lock:
                counts["decoded"] += number == 0
            yield seen

    real = featstore.flow.record_item.read_image
    monkeypatch.setattr(
        "featstore.flow.record_item.read_image", lambda path: (counts["read"].append(path), real(path))[1]
    )
    monkeypatch.setattr("featstore.flow.loading.iter_views", counted)
    return counts


def backbone(**options):
    return CountingBackbone(**{"views": RECIPE, **options})


def rows_of(store):
    """Return each row of the only space by its key; two rows of one key are a mistake here."""
    space = featstore.FeatureStore(store).space()
    rows = {
        (content.tobytes(), int(view)): space.rows([number])[0].tobytes()
        for number, (content, view) in enumerate(zip(space.content_hash, space.view, strict=True))
    }
    assert len(rows) == space.n_rows
    return rows


def test_rows_are_the_features_of_the_views(photos, store):
    network = backbone()
    featstore.extract(photos, store, backbone=network, n_views=4)
    rows = rows_of(store)
    assert len(rows) == 4 * N_IMAGES
    for path in photos.glob("*/*.png"):
        data = path.read_bytes()
        digest = content_hash(data)
        pixels = decode_views(data, size_px=(8, 8), recipe=RECIPE, content_hash=digest, views=range(4))
        for view, row in enumerate(network.forward(np.stack(pixels))):
            assert rows[digest, view] == row.tobytes()


def test_an_image_is_read_and_decoded_once_for_all_its_views(photos, store, opened):
    network = backbone()
    report = featstore.extract(photos, store, backbone=network, n_views=7)
    assert (len(opened["read"]), opened["decoded"], network.images) == (N_IMAGES, N_IMAGES, 7 * N_IMAGES)
    assert (report.views, report.extracted, report.extracted_views, report.read) == (7, 6, 42, 6)


def test_one_more_view_costs_only_itself(photos, store, opened):
    featstore.extract(photos, store, backbone=backbone(), n_views=3)
    before = rows_of(store)
    network = backbone()
    report = featstore.extract(photos, store, backbone=network, n_views=4)
    assert network.images == N_IMAGES
    assert (report.extracted, report.extracted_views, report.reused) == (N_IMAGES, N_IMAGES, 0)
    assert (len(opened["read"]), opened["decoded"]) == (2 * N_IMAGES, 2 * N_IMAGES)
    after = rows_of(store)
    assert {key for key in after if key not in before} == {(content, 3) for content, _ in before}
    assert before.items() <= after.items()


@pytest.mark.parametrize("n_views", [2, 4])
def test_no_more_views_than_there_are_cost_nothing(photos, store, opened, n_views):
    featstore.extract(photos, store, backbone=backbone(), n_views=4)
    opened["read"].clear()
    network = backbone()
    report = featstore.extract(photos, store, backbone=network, n_views=n_views)
    assert (network.batches, opened["read"]) == (0, [])
    assert (report.extracted, report.extracted_views, report.reused) == (0, 0, N_IMAGES)


def test_only_images_that_lack_a_view_are_opened(photos, store, opened):
    featstore.extract(photos, store, backbone=backbone(), n_views=4)
    space = featstore.FeatureStore(store).space()
    lost = content_hash((photos / "a" / "2.png").read_bytes())
    keep = [
        number
        for number, (content, view) in enumerate(zip(space.content_hash, space.view, strict=True))
        if (content.tobytes(), view) != (lost, 2)
    ]
    shorter = store.with_name("shorter.fstore")
    other = featstore.FeatureStore(shorter, create=True)
    other.create_space(space.spec, feature_dim=5).append(
        space.rows(keep), space.content_hash[keep], space.view[keep]
    )
    other.write_catalog(featstore.FeatureStore(store).catalog())
    opened["read"].clear()
    network = backbone()
    report = featstore.extract(photos, shorter, backbone=network, n_views=4)
    assert [os.path.basename(path) for path in opened["read"]] == ["2.png"]
    assert (network.images, report.extracted, report.reused) == (1, 1, N_IMAGES - 1)
    assert rows_of(shorter) == rows_of(store)


def test_a_content_that_is_there_twice_passes_once(photos, store):
    for number in range(4):
        shutil.copy(photos / "a" / "2.png", photos / "b" / f"copy{number}.png")
    network = backbone(batch_size=5)
    report = featstore.extract(photos, store, backbone=network, n_views=8)
    assert network.images == 8 * N_IMAGES
    assert (report.extracted, report.reused) == (N_IMAGES, 4)
    assert len(rows_of(store)) == 8 * N_IMAGES


def test_copies_pass_once_although_each_batch_is_sealed_at_once(photos, store, monkeypatch):
    monkeypatch.setattr("featstore.flow.sealing.SEAL_BYTES", 1)
    for number in range(4):
        shutil.copy(photos / "a" / "2.png", photos / "a" / f"2copy{number}.png")
    network = backbone(batch_size=2)
    assert featstore.extract(photos, store, backbone=network, n_views=40).reused == 4
    assert network.images == 40 * N_IMAGES


@pytest.mark.parametrize("n_views", [31, 32, 33, 64, 100])
def test_images_with_many_views_come_in_parts_and_whole(photos, store, opened, n_views):
    network = backbone(batch_size=16)
    report = featstore.extract(photos, store, backbone=network, n_views=n_views)
    assert (report.extracted, report.read, network.images) == (N_IMAGES, N_IMAGES, n_views * N_IMAGES)
    assert opened["decoded"] == N_IMAGES
    assert {view for _, view in rows_of(store)} == set(range(n_views))


def test_few_views_wait_however_many_an_image_has(photos, store, monkeypatch):
    lock, drawn, waiting = threading.Lock(), [0], []

    def counted(*arguments, **options):
        for pixels in iter_views(*arguments, **options):
            with lock:
                drawn[0] += 1
            yield pixels

    monkeypatch.setattr("featstore.flow.loading.iter_views", counted)
    network = backbone(batch_size=8, before_batch=lambda number: waiting.append(drawn[0] - 8 * number))
    featstore.extract(photos, store, backbone=network, n_views=300, workers=2)
    assert network.images == 300 * N_IMAGES
    # Three images, 32 views of each; and the part whose first views are being gathered.
    assert max(waiting) <= 4 * 32


def test_views_of_several_images_share_a_batch(photos, store):
    network = backbone(batch_size=9)
    featstore.extract(photos, store, backbone=network, n_views=3)
    assert network.batches == 2


def test_ctrl_c_keeps_every_view_that_was_computed(photos, store):
    whole = store.with_name("whole.fstore")
    featstore.extract(photos, whole, backbone=backbone(), n_views=5)

    def press(number):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(ExtractionInterrupted) as caught:
        featstore.extract(photos, store, backbone=backbone(before_batch=press), n_views=5)
    # Three batches of four: two images, and two views of a third.
    assert (caught.value.report.extracted, caught.value.report.extracted_views) == (2, 12)
    assert len(rows_of(store)) == 12
    network = backbone()
    report = featstore.extract(photos, store, backbone=network, n_views=5)
    assert network.images == 5 * N_IMAGES - 12
    assert (report.extracted, report.reused) == (N_IMAGES - 2, 2)
    assert rows_of(store) == rows_of(whole)


def test_runs_that_stop_at_any_batch_end_at_the_same_rows(photos, store):
    whole = store.with_name("whole.fstore")
    featstore.extract(photos, whole, backbone=backbone(), n_views=9)
    chance = random.Random(0)
    computed = 0
    n_stopped = 0
    while True:
        stop = chance.randrange(4)

        def press(number, stop=stop):
            if number == stop:
                raise KeyboardInterrupt

        network = backbone(before_batch=press, batch_size=chance.randint(1, 7))
        try:
            featstore.extract(photos, store, backbone=network, n_views=9)
            computed += network.images
            break
        except ExtractionInterrupted:
            computed += network.images
            n_stopped += 1
    assert n_stopped > 3
    assert computed == 9 * N_IMAGES
    assert rows_of(store) == rows_of(whole)


def test_a_bad_image_leaves_the_views_of_others_alone(photos, store):
    whole = store.with_name("whole.fstore")
    featstore.extract(photos, whole, backbone=backbone(), n_views=3)
    (photos / "a" / "bad.png").write_bytes((photos / "a" / "0.png").read_bytes()[:100])
    report = featstore.extract(photos, store, backbone=backbone(), n_views=3)
    assert (report.extracted, report.failed, report.failures[0][0]) == (N_IMAGES, 1, "a/bad.png")
    assert rows_of(store) == rows_of(whole)


def test_strict_names_the_bad_image(photos, store):
    (photos / "a" / "bad.png").write_bytes(b"nothing")
    with pytest.raises(ExtractionError, match=r"a/bad\.png"):
        featstore.extract(photos, store, backbone=backbone(), n_views=3, strict=True)


def test_progress_counts_images(photos, store):
    calls = []
    featstore.extract(
        photos, store, backbone=backbone(), n_views=40, progress=lambda *call: calls.append(call)
    )
    assert (calls[0], calls[-1]) == ((0, N_IMAGES), (N_IMAGES, N_IMAGES))


def test_tables_have_one_row_for_each_image(photos, store):
    featstore.extract(photos, store, backbone=backbone(), n_views=5)
    table = featstore.FeatureStore(store).table()
    assert len(table) == N_IMAGES
    assert table.spec.views == RECIPE


def test_recipes_have_spaces_of_their_own(photos, store):
    featstore.extract(photos, store, backbone=backbone(), n_views=2)
    featstore.extract(photos, store, backbone=backbone(views=ViewRecipe(flip=True)), n_views=2)
    featstore.extract(photos, store, backbone=backbone(views=None))
    assert len(featstore.FeatureStore(store).space_names) == 3


@pytest.mark.parametrize(
    ("options", "n_views", "message"),
    [
        ({"views": None}, 8, "8 views need a recipe that makes them differ"),
        ({}, 1, "ask for 2 or more"),
        ({"views": ViewRecipe(flip=True)}, 3, "only 2 are distinct"),
        ({}, 0, "from 1 to 65,536 views"),
    ],
)
def test_views_that_do_not_go_with_the_recipe_are_refused_before_anything_is_made(
    photos, store, options, n_views, message
):
    with pytest.raises(ViewError, match=message):
        featstore.extract(photos, store, backbone=backbone(**options), n_views=n_views)
    assert not store.exists()


def test_a_recipe_is_an_option_of_a_backbone_and_changes_its_fingerprint():
    plain, viewed = featstore.load_backbone("scattering"), featstore.load_backbone("scattering", views=RECIPE)
    assert (plain.spec.views, viewed.spec.views) == (None, RECIPE)
    assert plain.spec.fingerprint != viewed.spec.fingerprint


def test_a_named_backbone_takes_its_recipe_from_the_options(photos, store):
    with pytest.raises(ViewError, match="ask for 2 or more"):
        featstore.extract(photos, store, backbone="scattering", views=RECIPE)
    with pytest.raises(ViewError, match="need a recipe"):
        featstore.extract(photos, store, backbone="scattering", n_views=2)


def test_a_recipe_does_not_have_the_network_converted_again():
    plain, viewed = (CountingBackbone(views=views).spec for views in (None, RECIPE))
    assert _network_key(plain) == _network_key(viewed)


def test_views_are_a_recipe_and_not_a_number():
    with pytest.raises(BackboneError, match="views is a ViewRecipe, or None; found 8"):
        featstore.load_backbone("scattering", views=8)
