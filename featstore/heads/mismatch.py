"""Differences between two feature specifications, for error messages."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featstore.errors import FingerprintMismatchError

if TYPE_CHECKING:
    from featstore.backbones.spec import BackboneSpec, JoinedSpec

__all__ = ["differences", "mismatch_error"]


def differences(own: "BackboneSpec | JoinedSpec", other: "BackboneSpec | JoinedSpec") -> list[str]:
    """Describe each field that differs, as ``layer is a in the head and b here``."""
    # Joined backbones are compared part by part, unless their numbers differ.
    if len(own.parts) != len(other.parts):
        return [f"the head joins {_backbones(len(own.parts))}, and here {_are(len(other.parts))}"]
    if {*own.parts} == {*other.parts}:
        return ["the backbones are the same and joined in another order"]
    found = []
    for number, (ours, theirs) in enumerate(zip(own.parts, other.parts, strict=True), start=1):
        ahead = f"in part {number}, " if len(own.parts) > 1 else ""
        mine, yours = ours.to_dict(), theirs.to_dict()
        found += [
            f"{ahead}{key} is {_short(mine.get(key))} in the head and {_short(yours.get(key))} here"
            for key in sorted({*mine, *yours})
            if mine.get(key) != yours.get(key)
        ]
    return found


def _backbones(n: int) -> str:
    return f"{n} backbones" if n > 1 else "no backbones"


def _are(n: int) -> str:
    return "is one" if n == 1 else f"are {n}"


def _short(value: Any) -> object:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(name if flag is True else f"{name} {flag:g}" for name, flag in value.items())
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def mismatch_error(
    name: str, own: "BackboneSpec | JoinedSpec", fingerprint: str, spec: "BackboneSpec | JoinedSpec | None"
) -> FingerprintMismatchError:
    """Return the error for features, or a backbone, that are not those of a head."""
    found = spec.name if spec else "the fingerprint " + fingerprint[:12]
    message = f"the head {name} was fitted on features of {own.name}; found {found}"
    if spec is not None:
        message += ": " + ", ".join(differences(own, spec))
    return FingerprintMismatchError(
        message + "; use the head's own backbone and weights, or fit another head"
    )
