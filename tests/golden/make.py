"""Write the golden files of the version of featstore that runs this: `python tests/golden/make.py tests/golden/0.5`.

Done once for each version whose files differ, and kept: tests/golden/test_golden.py reads them all for ever.
Those of 0.1 and 0.2 are from the last commits of these versions.
"""

import hashlib
import json
import os
import sys
from dataclasses import replace

import numpy as np
from PIL import Image

from featstore.backbones import load_backbone
from featstore.backbones.spec import BackboneSpec
from featstore.hashing import content_hash
from featstore.heads import fit, fit_labels, fit_regression
from featstore.heads.forms.gated import GatedForm, unit_rows
from featstore.heads.forms.linear import LinearForm
from featstore.images import ViewRecipe, decode_views
from featstore.store import Catalog, FeatureStore

N_IMAGES, FEATURE_DIM, N_VIEWS = 24, 3, 4
RECIPE = ViewRecipe(flip=True, random_crop=10, random_scale=10, random_brightness=10)
LABELS = [("daisy", "rose", "tulip")[number % 3] for number in range(N_IMAGES)]


def content_hashes():
    """Hashes that count: 32 bytes of the image's number plus one."""
    return np.repeat(np.arange(1, N_IMAGES + 1, dtype=np.uint8)[:, None], 32, axis=1)


def features():
    """Sixteenths, which every type of float holds exactly; one class a corner."""
    rows = np.eye(3, dtype=np.float32)[np.arange(N_IMAGES) % 3] * 4
    return rows + (np.arange(N_IMAGES, dtype=np.float32) / 16)[:, None]


def spec(dtype, views=None):
    return BackboneSpec(
        architecture="golden",
        weights_digest="5" * 64,
        layer="top",
        size_px=(8, 6),
        preprocessing="unit",
        dtype=dtype,
        views=views,
    )


def splits():
    return [("train", "train", "validation", "test")[number // 3 % 4] for number in range(N_IMAGES)]


def main(folder):
    store = FeatureStore(os.path.join(folder, "golden.fstore"), create=True)
    for dtype in ("float32", "float16"):
        space = store.create_space(spec(dtype), feature_dim=FEATURE_DIM, provenance={"weights": "golden.h5"})
        space.append(features()[:20], content_hashes()[:20])
        space.append(features()[20:], content_hashes()[20:])
    # View 1 of the first image, next to its view 0.
    space.append(features()[:1] + 1, content_hashes()[:1], np.ones(1, np.uint16))
    # Views 0 and 1 of each image, side by side, and 2 and 3 later: each row is view 0's plus the view's number.
    space = store.create_space(
        spec("float32", RECIPE), feature_dim=FEATURE_DIM, provenance={"weights": "golden.h5"}
    )
    for views in ([0, 1], [2, 3]):
        rows = np.concatenate([features() + view for view in views])
        space.append(rows, np.tile(content_hashes(), (2, 1)), np.repeat(np.array(views, np.uint16), N_IMAGES))
    store.write_catalog(
        Catalog(
            name="photos",
            root="/data/photos",
            location="/data/photos",
            paths=[f"{label}/{number}.jpg" for number, label in enumerate(LABELS)] + ["broken\udcff.jpg"],
            labels=[*LABELS, None],
            groups=["one", "one", *[None] * (N_IMAGES - 1)],
            splits=[*splits(), None],
            content_hash=np.concatenate([content_hashes(), np.zeros((1, 32), np.uint8)]),
            sizes=[*range(100, 100 + N_IMAGES), -1],
            mtimes_ns=[*(number * 10**9 for number in range(N_IMAGES)), -1],
            ctimes_ns=[*(number * 10**9 + 1 for number in range(N_IMAGES)), -1],
            inodes=[*range(1000, 1000 + N_IMAGES), -1],
            moved_from="/data/pictures",
            reasons=[*[None] * N_IMAGES, "it is no image"],
        )
    )
    head = fit(store.table(spec("float32").name), head="logistic", params={"C": 1.0})
    head.save(store.head_path("logistic"))
    gated(head).save(store.head_path("gated"))
    fit(store.table(spec("float32").name), head="rbf", params={"gamma": 1.0, "alpha": 0.01}).save(
        os.path.join(folder, "kernel.head")
    )
    options = {"alpha": 0.0, "hidden_units": 5, "steps": 60}
    fit(store.table(spec("float32").name), head="mlp", params=options).save(
        os.path.join(folder, "network.head")
    )
    write_several(folder, store)
    write_numbers(folder, store)
    store.pack(os.path.join(folder, "golden.h5"), space=spec("float32").name)
    write_views(folder)


def write_several(folder, store):
    """Write a catalog whose images have several labels and weights, and a head that gives several."""
    labels = [f"{label}|seen" if number % 2 else label for number, label in enumerate(LABELS)]
    several = replace(
        store.catalog(),
        name="several",
        labels=[*labels, None],
        label_separator="|",
        weights=[*(1.0 + number % 3 for number in range(N_IMAGES)), np.nan],
    )
    store.write_catalog(several)
    table = store.table(spec("float32").name, "several")
    fit_labels(table, head="ridge", params={"alpha": 1.0}).save(os.path.join(folder, "several.head"))
    os.replace(store.catalog_path("several"), os.path.join(folder, "several.h5"))


def write_numbers(folder, store):
    """Write a catalog whose images have a number, and heads that predict it."""
    numbers = [*(10.0 * (number % 3) + number / 8 for number in range(N_IMAGES)), np.nan]
    ages = replace(
        store.catalog(), name="numbers", labels=[None] * len(numbers), target_name="age", targets=numbers
    )
    store.write_catalog(ages)
    table = store.table(spec("float32").name, "numbers")
    fit_regression(table, params={"alpha": 1.0}).save(os.path.join(folder, "number.head"))
    options = {"n_neighbors": 2, "weights": "distance"}
    fit_regression(table, head="knn", params=options).save(os.path.join(folder, "neighbors.head"))
    os.replace(store.catalog_path("numbers"), os.path.join(folder, "numbers.h5"))


def gated(head):
    """Put a gate between the head's classes and moss, of which the first class may be one, too."""
    form = GatedForm(
        old=head.linear,
        new=LinearForm(coef=np.array([[1.0, 0.0, 0.5], [0.0, 0.25, 0.0]]), intercept=np.array([0.5, 0.0])),
        temperatures=np.array([1.5, 2.0]),
        weights=np.array([3.0, -0.5, -1.0]),
        offset=np.array(0.25),
        neighbors=unit_rows(features()[:5]),
        old_neighbors=unit_rows(features()[5:9]),
        members=np.array([[0, 3], [4, -1], [1, -1], [2, -1]]),
    )
    classes = np.array(["daisy", "moss", "rose", "tulip"])
    return replace(head, name="gate", classes=classes, linear=None, gated=form, held_out={})


def write_views(folder):
    """Write a picture, and what its views are: drawn, as pixels, and as rows of the scattering network."""
    waves = np.arange(40)[:, None, None] * [3, 5, 2] + np.arange(60)[None, :, None] * [4, 1, 6]
    path = os.path.join(folder, "photo.png")
    Image.fromarray((127 + 120 * np.sin(waves / 9)).astype(np.uint8)).save(path)
    with open(path, "rb") as file:
        data = file.read()
    digest = content_hash(data)
    backbone = load_backbone("scattering", image_size=32, views=RECIPE)
    pixels = decode_views(data, size_px=(32, 32), recipe=RECIPE, content_hash=digest, views=range(N_VIEWS))
    rows = backbone.forward(np.stack(pixels))
    told = {
        "recipe": RECIPE.to_dict(),
        "fingerprint": backbone.spec.fingerprint,
        "content_hash": digest.hex(),
        "draws": [list(RECIPE.draw(digest, view).__dict__.values()) for view in range(N_VIEWS)],
        "pixels": [hashlib.sha256(seen.tobytes()).hexdigest() for seen in pixels],
        "rows": [row[::200].tolist() for row in rows],
    }
    with open(os.path.join(folder, "views.json"), "w", encoding="utf-8") as file:
        json.dump(told, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
