"""Where featstore keeps what it can make again."""

import os

import platformdirs

__all__ = ["cache_folder"]


def cache_folder() -> str:
    """Return the cache folder: ``$FEATSTORE_CACHE``, or in the system's user cache folder."""
    return os.environ.get("FEATSTORE_CACHE") or platformdirs.user_cache_dir("featstore", appauthor=False)
