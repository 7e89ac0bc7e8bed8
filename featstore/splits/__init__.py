"""Splits decided by a hash: the same on every machine, and the same when images are added.

The formula, which no version may change. For a row with the key ``key`` (bytes) under the salt ``salt``::

    digest = SHA-256(salt in UTF-8 + key)                 (FIPS 180-4)
    u      = the digest's bytes 0 to 7 as a big-endian unsigned integer, in [0, 2**64)
    t      = floor(test * 2**64)
    v      = t + floor(validation * 2**64)
    split  = "test" if u < t, else "validation" if u < v, else "train"

``test`` and ``validation`` are IEEE 754 doubles; scaling one by a power of two is exact, so that ``t`` and
``v`` are the same integers everywhere. The key depends on what the rule goes by:

- ``"content"``: the 32 bytes of the content hash itself;
- ``"group"``: ``b"group:"`` and the group's text;
- ``"folder"``: ``b"folder:"`` and all of the path before its last ``/``;
- ``"pattern"``: ``b"pattern:"`` and what the regular expression finds first in the path: its first capturing
  group, or where it has none, the whole match;
- ``"filename"``: ``b"filename:"`` and the last part of the path.

Where the text would be empty (no group, no folder, no match), ``"group"``, ``"folder"`` and ``"pattern"``
fall back to the content hash. Paths are those of the catalog. Text becomes bytes as UTF-8, in which the
surrogate escapes of names that are not UTF-8 stand for their own bytes (PEP 383).

The rule ``"retrain"`` is that of TensorFlow's ``retrain.py`` (``create_image_lists`` in
``examples/image_retraining/retrain.py`` of tensorflow/hub), where ``name`` is ``retrain_prefix``, ``/`` where
it does not end in one, and the path (an absolute path stands alone), without the first ``_nohash_`` and what
follows it::

    p     = (SHA-1(name) as a big-endian integer mod 2**27) * (100.0 / (2**27 - 1))    in doubles
    split = "validation" if p < validation, else "test" if p < test + validation, else "train"

with ``test`` and ``validation`` in percent. The script hashed each path with its ``--image_dir`` in front, so
that is the prefix; its first version took 2**16 instead of 2**27.

A split that the user has given wins over the rule, with one exception that has to be asked for: under
``validation_from_train``, a row that is given to train and that the rule deals to validation goes there.

The cross-validators use the digest's bytes 8 to 15 instead: folds drawn inside a training split are as even
as folds drawn from everything.
"""

from featstore.splits.folds import HashHoldout, HashKFold
from featstore.splits.rules import SPLITS, SplitRule, assign_splits, group_keys

__all__ = ["SPLITS", "HashHoldout", "HashKFold", "SplitRule", "assign_splits", "group_keys"]
