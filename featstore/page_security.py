"""What keeps pages to what they are made of."""

import hashlib
import json
from base64 import b64encode
from typing import Any

__all__ = ["embedded_json", "source_hash"]


def embedded_json(data: Any) -> str:
    """Return data as JSON that no text in it can end, in ASCII."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def source_hash(text: str) -> str:
    """Return the source expression by which a content security policy allows an inline text."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
