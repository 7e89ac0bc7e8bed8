"""TensorFlow's checkpoints: which files one is in, told without TensorFlow."""

import glob
import hashlib
import os

from featstore.backbones.caches.cache import file_digest

__all__ = ["checkpoint_digest", "checkpoint_files", "checkpoint_prefix"]

# The last bytes of the table of a checkpoint (tensorflow/core/lib/io/table_format: kTableMagicNumber).
_MAGIC = bytes.fromhex("57fb808b247547db")


def checkpoint_prefix(path: str) -> str | None:
    """Return what TensorFlow calls the checkpoint that a path is, or is a file of; None of other files."""
    # An index looks like a checkpoint in the older format.
    stems = path.removesuffix(".index"), path.removesuffix(".meta"), path.partition(".data-0")[0]
    for prefix in (*stems, path):
        if checkpoint_files(prefix):
            return prefix
    return None


def checkpoint_files(prefix: str) -> list[str]:
    """Return the files of a checkpoint: one in the older format, an index and its data in the newer."""
    if _ends_as_table(f"{prefix}.index"):
        data = sorted(glob.glob(f"{glob.escape(prefix)}.data-*-of-*"))
        return [f"{prefix}.index", *data] if data else []
    return [prefix] if _ends_as_table(prefix) else []


def checkpoint_digest(prefix: str) -> str:
    """Return the SHA-256 over the files of a checkpoint."""
    digests = [file_digest(path) for path in checkpoint_files(prefix)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _ends_as_table(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-len(_MAGIC), os.SEEK_END)
            return file.read() == _MAGIC
    except OSError:
        return False
