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

A rule that stratifies (all but ``"retrain"`` by default) then looks at the classes, one label each. What has
the same ``u`` is one unit and stays together: the copies of an image, or a group. For each part that gets a
fraction, train first, then test, then validation, and for each class without a unit in it, in the order of
their names, one unit is moved there:

- from the part that holds the most units of the class; of equal ones from train before validation before
  test;
- the unit whose ``u`` is nearest to the part that it goes to: the smallest in the order test, validation,
  train when it goes down that order, else the largest;
- but none that is given a split, and none that would leave a class of its own without a unit in a part that
  comes before.

So a class of one unit is in train, of two in train and test, of three or more in all. Units of one class are
moved for that class alone, and at most two of them, so that when images are added

- a class that the hash alone gives a unit in every part changes nothing, now or later, whatever is added;
- in any other class at most two units go back to where the hash alone has them, and at most two others are
  moved in their place, and none of another class. Once each part has a unit by the hash, all are where it
  says. (The hash leaves a part of 10% empty in 35 of 100 classes of 10 images, and in 1 of 200 of 50.)

The cross-validators use the digest's bytes 8 to 15 instead: folds drawn inside a training split are as even
as folds drawn from everything. Where they stratify, a class that has several units, all of them in one fold,
has the one with the smallest ``u`` moved to the fold after it, if no other class would come to lie in one
fold by that: one unit of such a class, and none of any other.
"""

from featstore.splits.folds import HashHoldout, HashKFold, fold_numbers
from featstore.splits.rules import SPLITS, SplitRule, assign_splits, group_keys

__all__ = ["SPLITS", "HashHoldout", "HashKFold", "SplitRule", "assign_splits", "fold_numbers", "group_keys"]
