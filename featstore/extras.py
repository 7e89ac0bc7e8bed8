"""Packages that not everybody needs, which featstore's extras install."""

from importlib.util import find_spec

from featstore.errors import MissingExtraError

__all__ = ["check_extra"]


def check_extra(extra: str, what: str, *packages: str) -> None:
    """Raise MissingExtraError unless ``what`` has the packages it needs; none of them is imported."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise MissingExtraError(
            f'{what} needs {" and ".join(missing)}, not installed here; run: pip install "featstore[{extra}]"'
        )
