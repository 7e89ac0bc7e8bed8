"""Old classes and new ones as Gaussians in one space of features, and a head on the old ones."""

import hashlib

import numpy as np

import featstore
from fake_tables import table_of

DIM = 12


def photos(labels, n_each, *, seed, spread=0.5, catalog="photos"):
    """Images around a centre of their own for each label; a label has the same one wherever it occurs."""
    X, y = [], []
    random = np.random.default_rng(seed)
    for label in labels:
        number = int.from_bytes(hashlib.sha256(label.strip("+").encode()).digest()[:4], "big")
        centre = 1 + np.random.default_rng(number).normal(size=DIM)
        X.append(centre + spread * random.normal(size=(n_each, DIM)))
        y += [label] * n_each
    table = table_of(np.concatenate(X).astype(np.float32), y)
    hashes = [hashlib.sha256(b"%d %d %s" % (seed, n, catalog.encode())).digest() for n in range(len(y))]
    return table.but(
        catalog_name=catalog,
        content_hash_bytes=np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32),
    )


OLD = tuple(f"old {number}" for number in range(6))
NEW = ("new 0", "new 1", "new 2")


def old_head(head="logistic", **options):
    return featstore.fit(photos(OLD, 30, seed=1, catalog="old"), head=head, **{"refit": False, **options})


def further_old(n_each=20, labels=OLD):
    """Images of old classes that no head was fitted on."""
    return photos(labels, n_each, seed=2, catalog="further")


def new_photos(labels=NEW, n_each=30):
    return photos(labels, n_each, seed=3, catalog="new")
