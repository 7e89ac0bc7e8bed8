"""Hash-based splits: the same on every machine, and stable when images are added.

The formula never changes between versions. For a row with the key ``key`` (bytes) under the salt ``salt``::

    digest = SHA-256(salt in UTF-8 + key)                 (FIPS 180-4)
    u      = the digest's bytes 0 to 7 as a big-endian unsigned integer, in [0, 2**64)
    t      = floor(test * 2**64)
    v      = t + floor(validation * 2**64)
    split  = "test" if u < t, else "validation" if u < v, else "train"

``test`` and ``validation`` are IEEE 754 doubles; scaling one by a power of two is exact, so that ``t`` and
``v`` are the same integers everywhere. The key depends on what the rule splits by:

- ``"content"``: the 32 bytes of the content hash itself;
- ``"group"``: ``b"group:"`` and the group's text;
- ``"folder"``: ``b"folder:"`` and the part of the path before its last ``/``;
- ``"pattern"``: ``b"pattern:"`` and the regular expression's first match in the path: its first capturing
  group, or the whole match if it has none;
- ``"filename"``: ``b"filename:"`` and the last part of the path.

If the text would be empty (no group, no folder, no match), ``"group"``, ``"folder"`` and ``"pattern"``
fall back to the content hash. Paths are those of the catalog. Text becomes bytes as UTF-8, in which the
surrogate escapes of names that are not UTF-8 stand for their own bytes (PEP 383).

The rule ``"retrain"`` is that of TensorFlow's ``retrain.py`` (``create_image_lists`` in
``examples/image_retraining/retrain.py`` of tensorflow/hub), where ``name`` is ``retrain_prefix``, ``/`` if
it does not end in one, and the path (an absolute path stands alone), without the first ``_nohash_`` and what
follows it::

    p     = (SHA-1(name) as a big-endian integer mod 2**27) * (100.0 / (2**27 - 1))    in doubles
    split = "validation" if p < validation, else "test" if p < test + validation, else "train"

with ``test`` and ``validation`` in percent. The script hashed each path with its ``--image_dir`` in front, so
that is the prefix; its first version took 2**16 instead of 2**27.

A split given by the user overrides the rule, with one opt-in exception: with ``validation_from_train``, a row
that is given to train and that the rule assigns to validation goes to validation.

A rule that stratifies (all but ``"retrain"`` by default) then considers the classes, one label each. Rows
with the same ``u`` are one unit and stay together: the copies of an image, or a group. For each part with a
fraction above 0, train first, then test, then validation, and for each class without a unit in it, in the
order of their names, one unit is moved there:

- from the part with the most units of the class; among equals from train before validation before test;
- the unit whose ``u`` is nearest to the target part: the smallest if it moves down the order test,
  validation, train, else the largest;
- but no unit with a given split, and none that would leave one of its classes without a unit in an earlier
  part.

So a class of one unit is in train, of two in train and test, of three or more in all parts. At most two units
of a class are moved, and for that class alone, so that when images are added

- a class that the hash alone gives a unit in every part never changes, whatever is added;
- in any other class at most two units return to their part by the hash alone, at most two others are moved
  instead, and none of another class. Once each part has a unit by the hash, all units are where the hash
  puts them. (The hash leaves a part of 10% empty in 35 of 100 classes of 10 images, and in 1 of 200 of 50.)

The cross-validators use the digest's bytes 8 to 15 instead: folds drawn inside a training split are as even
as folds drawn from everything. When they stratify, a class with several units, all in one fold, has
the one with the smallest ``u`` moved to the next fold, unless that would leave another class in a single
fold: one unit of such a class, and none of any other.
"""

from featstore.splits.folds import HashHoldout, HashKFold, fold_numbers
from featstore.splits.rules import PARTS, SPLITS, SplitRule, assign_splits, group_keys, part_numbers

__all__ = [
    "PARTS",
    "SPLITS",
    "HashHoldout",
    "HashKFold",
    "SplitRule",
    "assign_splits",
    "fold_numbers",
    "group_keys",
    "part_numbers",
]
