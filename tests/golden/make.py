"""Write the golden files of the version of featstore that runs this: `python tests/golden/make.py tests/golden/0.3`.

Done once for each version whose files differ, and kept: tests/golden/test_golden.py reads them all for ever.
Those of 0.1 and 0.2 are from the last commits of these versions.
"""

import os
import sys

import numpy as np

from featstore.backbones.spec import BackboneSpec
from featstore.heads import fit
from featstore.store import Catalog, FeatureStore

N_IMAGES, FEATURE_DIM = 24, 3
LABELS = [("daisy", "rose", "tulip")[number % 3] for number in range(N_IMAGES)]


def content_hashes():
    """Hashes that count: 32 bytes of the image's number plus one."""
    return np.repeat(np.arange(1, N_IMAGES + 1, dtype=np.uint8)[:, None], 32, axis=1)


def features():
    """Sixteenths, which every type of float holds exactly; one class a corner."""
    rows = np.eye(3, dtype=np.float32)[np.arange(N_IMAGES) % 3] * 4
    return rows + (np.arange(N_IMAGES, dtype=np.float32) / 16)[:, None]


def spec(dtype):
    return BackboneSpec(
        architecture="golden",
        weights_digest="5" * 64,
        layer="top",
        size_px=(8, 6),
        preprocessing="unit",
        dtype=dtype,
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
            reasons=[*[None] * N_IMAGES, "it is no image"],
        )
    )
    head = fit(store.table(spec("float32").name), head="logistic", params={"C": 1.0})
    head.save(store.head_path("logistic"))
    store.pack(os.path.join(folder, "golden.h5"), space=spec("float32").name)


if __name__ == "__main__":
    main(sys.argv[1])
