"""Corrections of labels, by the content of the images: a CSV file that people can read, edit and share."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from featstore.class_names import normalised_name
from featstore.errors import CorrectionsError, StoreError
from featstore.io.json_values import json_values
from featstore.messages import listed
from featstore.store.catalogs.catalog import encoded_text

__all__ = [
    "DECISIONS",
    "DUPLICATE",
    "EXCLUDED",
    "Correction",
    "CorrectionEffect",
    "Corrections",
    "apply_corrections",
]

# Why images are left out, in catalogs too.
EXCLUDED, DUPLICATE = "excluded by a correction", "by a correction a duplicate of"
DECISIONS = ("accept", "relabel", "exclude", "duplicate")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """A decision on an image, whatever its name and wherever it is.

    Parameters
    ----------
    content_hash : str
        SHA-256 of the file's content, 64 hexadecimal digits.
    decision : {"accept", "relabel", "exclude", "duplicate"}
        The label is right; it is another one; the image is of no use; or it shows the same as another one,
        and is left out where that one is there.
    new : str
        The label, which for ``"accept"`` is the old one; of a duplicate, the content hash of the image that
        stays; empty for ``"exclude"``.
    old : str
        The label that the image had.
    path, who, when : str
        For people: the path, who decided, and the time.

    Raises
    ------
    CorrectionsError
        One of them cannot be so.

    Examples
    --------
    >>> import featstore
    >>> content = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    >>> featstore.Correction(content_hash=content, decision="relabel", new="tulips").new
    'tulips'
    """

    content_hash: str
    decision: str
    new: str = ""
    old: str = ""
    path: str = ""
    who: str = ""
    when: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "new", normalised_name(self.new))
        if not _HASH.fullmatch(self.content_hash):
            raise CorrectionsError(
                f"content_hash must be 64 hexadecimal digits in lower case; found {self.content_hash[:80]!r}"
            )
        if self.decision not in DECISIONS:
            raise CorrectionsError(
                f"a decision must be one of {', '.join(DECISIONS)}; found {self.decision[:80]!r}"
            )
        if self.decision in ("accept", "relabel") and not self.new.strip():
            raise CorrectionsError(f"{self.decision} needs the label in the column new; found none")
        try:
            encoded_text(self.new, "label")
        except StoreError as error:
            raise CorrectionsError(str(error)) from None
        if self.decision == "exclude" and self.new:
            raise CorrectionsError(f"exclude takes no label; found {self.new[:80]!r} in the column new")
        if self.decision == "duplicate" and not _HASH.fullmatch(self.new):
            raise CorrectionsError(
                "duplicate needs the content hash of the image that stays in the column new; "
                f"found {self.new[:80]!r}"
            )
        if self.decision == "duplicate" and self.new == self.content_hash:
            raise CorrectionsError("an image cannot be a duplicate of itself: copies of a file are one image")


@dataclass(frozen=True, eq=False)
class Corrections:
    """The decisions of a file, in its order; of several on one image the last counts.

    Parameters
    ----------
    lines : tuple of Correction
    path : str
        The file.

    Raises
    ------
    CorrectionsError
        Images are duplicates of each other in a circle, so that none would stay.

    Examples
    --------
    >>> import featstore
    >>> one = featstore.Correction(
    ...     content_hash=table.content_hash[1], decision="relabel", old="roses", new="tulips"
    ... )
    >>> corrected = featstore.correct_labels(table, featstore.Corrections((one,)))
    >>> str(table.y[1]), str(corrected.y[1])
    ('roses', 'tulips')
    """

    lines: tuple[Correction, ...] = ()
    path: str = "corrections.csv"

    def __post_init__(self) -> None:
        current = self.current
        for start in current:
            at, seen = start, set()
            while at in current and current[at].decision == "duplicate":
                if at in seen:
                    raise CorrectionsError(
                        f"{self.path}: {at[:12]}… and {current[at].new[:12]}… are duplicates of each other, "
                        "so that neither would stay; undo one of the two"
                    )
                seen.add(at)
                at = current[at].new

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Correction]:
        return iter(self.lines)

    @cached_property
    def current(self) -> dict[str, Correction]:
        """What counts for each image, by its content hash, in the order in which it was decided."""
        found: dict[str, Correction] = {}
        for line in self.lines:
            found.pop(line.content_hash, None)
            found[line.content_hash] = line
        return found


@dataclass(frozen=True, kw_only=True)
class CorrectionEffect:
    """What corrections do to the images of a table or of a catalog.

    Parameters
    ----------
    relabelled : int
        Images that get another label, or one where they had none.
    confirmed : int
        Images that have the label already.
    left_out : int
        Images that are excluded, or are duplicates of another one that is there.
    unmatched : int
        Corrections of images that are not there.
    contradicted : int
        Corrections that a later one of the same image replaces.
    changed_since : int
        Images whose label is by now neither the one that was corrected nor the correct one.
    new_labels : tuple of str
        Labels that no image had before.

    Examples
    --------
    >>> import featstore
    >>> one = featstore.Correction(content_hash=table.content_hash[1], decision="exclude")
    >>> featstore.correction_effect(table, featstore.Corrections((one,))).left_out
    1
    """

    relabelled: int = 0
    confirmed: int = 0
    left_out: int = 0
    unmatched: int = 0
    contradicted: int = 0
    changed_since: int = 0
    new_labels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; the keys are stable."""
        return json_values(self)

    def doubts(self, path: str) -> list[str]:
        """Return warnings on what is likely not as it was meant."""
        found = [
            (self.unmatched, "of images that are not here"),
            (self.contradicted, "replaced by later lines on the same image"),
        ]
        sentences = [f"{path}: {n:,} corrections {what}" for n, what in found if n]
        if self.changed_since:
            sentences.append(
                f"{path}: {self.changed_since:,} images have got other labels since they were corrected; "
                "the corrections count"
            )
        if self.new_labels:
            sentences.append(
                f"{path}: labels that no image had before: {listed([repr(one) for one in self.new_labels])}"
            )
        return sentences


def apply_corrections(
    corrections: Corrections, content_hash: Sequence[str], labels: Sequence[str | None]
) -> tuple[list[str | None], list[str | None], CorrectionEffect]:
    """Return each image's label, the reason why it is left out (or None), and what has changed."""
    current, there = corrections.current, set(content_hash)
    told: dict[str, set[str | None]] = {}
    counts: Counter[str] = Counter()
    after = list(labels)
    reasons: list[str | None] = [None] * len(after)
    for at, (content, label) in enumerate(zip(content_hash, labels, strict=True)):
        one = current.get(content)
        if one is None:
            continue
        if one.decision == "exclude":
            reasons[at] = EXCLUDED
        elif one.decision == "duplicate":
            reasons[at] = f"{DUPLICATE} {one.new}" if one.new in there else None
        else:
            after[at] = one.new
            counts["confirmed" if label == one.new else "relabelled"] += 1
            told.setdefault(content, set()).add(label)
        counts["left_out"] += reasons[at] is not None
    # Copies may have several labels, of which a correction names one.
    n_changed = sum(
        found.isdisjoint({current[content].old, current[content].new, None})
        for content, found in told.items()
    )
    effect = CorrectionEffect(
        **counts,
        unmatched=sum(content not in there for content in current),
        contradicted=len(corrections) - len(current),
        changed_since=n_changed,
        new_labels=tuple(sorted({label for label in after if label} - {*labels})),
    )
    return after, reasons, effect
