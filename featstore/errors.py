"""Exceptions raised by featstore.

Each kind is a :class:`FeatstoreError` and also the built-in that a caller would expect::

    FeatstoreError
    ├── SourceError (ValueError)              a folder, CSV or list of images cannot be used
    │   └── SourceUnavailableError            a server of images cannot be reached, or refuses
    ├── ImageError (ValueError)               bytes that cannot be decoded into an image
    ├── ViewError (ValueError)                views cannot be drawn as asked
    ├── BackboneError (ValueError)            a backbone cannot be built as asked
    │   ├── UnknownBackboneError (LookupError)
    │   ├── WeightsError                      a weights file is unreadable or of another architecture
    │   └── WeightsUnavailableError (OSError) no weights file was given and none can be downloaded
    ├── StoreError (OSError)                  a store, segment or catalog cannot be used
    │   ├── StoreNotFoundError (FileNotFoundError)
    │   ├── OutputError                       a result cannot be written where it is asked for
    │   ├── FormatVersionError                written by a newer version
    │   └── DamagedError                      the bytes are not what was written
    ├── NotInStoreError (LookupError)         no such space, catalog, head or row
    ├── SplitError (ValueError)               a split rule is wrong or leaves a split empty
    ├── ExtractionError (RuntimeError)        extraction stopped: every image failed, or ``strict``
    ├── DuplicatesError (ValueError)          images cannot be compared as asked
    ├── SearchError (ValueError)              images cannot be searched or chosen as asked
    ├── PlotError (ValueError)                a result cannot be drawn as asked
    ├── ReportError (ValueError)              a report cannot be made as asked
    ├── ServingError (ValueError)             a model cannot be served as asked
    ├── MissingExtraError (ImportError)       an optional package is not installed
    ├── TuningError (ValueError)              a network cannot be tuned as asked
    ├── ExportError (ValueError)              a head cannot be exported, or an exported model used
    │   └── VerificationError                 an exported model's probabilities are not its head's
    └── HeadError (ValueError)                a head cannot be fitted, saved, loaded or used
        ├── UnknownHeadError (LookupError)
        ├── FingerprintMismatchError          features or a backbone of another space
        └── UntrustedTypeError (PermissionError)
"""

__all__ = [
    "BackboneError",
    "CorrectionsError",
    "DamagedError",
    "DuplicatesError",
    "ExportError",
    "ExtractionError",
    "FeatstoreError",
    "FingerprintMismatchError",
    "FormatVersionError",
    "HeadError",
    "ImageError",
    "MissingExtraError",
    "NotInStoreError",
    "OutputError",
    "PlotError",
    "ReportError",
    "SearchError",
    "ServingError",
    "SourceError",
    "SourceUnavailableError",
    "SplitError",
    "StoreError",
    "StoreNotFoundError",
    "TuningError",
    "UnknownBackboneError",
    "UnknownHeadError",
    "UntrustedTypeError",
    "VerificationError",
    "ViewError",
    "WeightsError",
    "WeightsUnavailableError",
    "first_line",
    "last_line",
    "message_lines",
]

_MAX_CHARACTERS = 200


class FeatstoreError(Exception):
    """Base class of all errors that featstore raises on purpose.

    Examples
    --------
    >>> from featstore import FeatureStore
    >>> try:
    ...     FeatureStore("missing.fstore")
    ... except FeatstoreError as error:
    ...     type(error).__name__
    'StoreNotFoundError'
    """

    def __str__(self) -> str:
        # LookupError and OSError format their arguments in their own ways; ours are plain sentences.
        return str(self.args[0]) if self.args else ""


class SourceError(FeatstoreError, ValueError):
    """A folder, CSV or list of images cannot be used."""


class SourceUnavailableError(SourceError):
    """An object store or another server of images cannot be reached, or refuses; trying again later may help.

    Attributes
    ----------
    reason : str
        What cannot be used, and why.
    """

    reason: str = ""


class ImageError(FeatstoreError, ValueError):
    """Bytes that cannot be decoded into an image."""


class ViewError(FeatstoreError, ValueError):
    """Views of an image cannot be drawn with these options."""


class BackboneError(FeatstoreError, ValueError):
    """A backbone cannot be built with these options."""


class UnknownBackboneError(BackboneError, LookupError):
    """No backbone has this name."""


class WeightsError(BackboneError):
    """A weights file is unreadable or belongs to another architecture."""


class WeightsUnavailableError(BackboneError, OSError):
    """No weights file was given and none can be downloaded."""


class SeveralLabelsError(FeatstoreError, ValueError):
    """Images may have several labels where one for each is needed, or the other way round."""


class TargetError(FeatstoreError, ValueError):
    """Images have a number where labels are needed, or the other way round."""


class StoreError(FeatstoreError, OSError):
    """A store, a segment or a catalog cannot be used."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at this path."""


class OutputError(StoreError):
    """A result cannot be written there: the file exists, is an input, or lies in a store."""


class FormatVersionError(StoreError):
    """A file was written by a newer version of featstore."""


class DamagedError(StoreError):
    """A file does not hold the bytes that were written."""


class NotInStoreError(FeatstoreError, LookupError):
    """The store has no such space, catalog, head or row."""


class CorrectionsError(FeatstoreError, ValueError):
    """Corrections of labels cannot be read, made or applied."""


class SplitError(FeatstoreError, ValueError):
    """A split rule is wrong, or it leaves a split empty."""


class ExtractionError(FeatstoreError, RuntimeError):
    """An extraction stopped: every image failed, or one did under ``strict``."""


class DuplicatesError(FeatstoreError, ValueError):
    """Images cannot be compared with these options."""


class SearchError(FeatstoreError, ValueError):
    """Images cannot be searched for, or chosen, with these options."""


class PlotError(FeatstoreError, ValueError):
    """A result cannot be plotted."""


class ReportError(FeatstoreError, ValueError):
    """A report cannot be made as asked."""


class ServingError(FeatstoreError, ValueError):
    """A model cannot be served as asked."""


class MissingExtraError(FeatstoreError, ImportError):
    """An optional package is not installed."""


class ExportError(FeatstoreError, ValueError):
    """A head cannot be exported, or an exported model cannot be used."""


class VerificationError(ExportError):
    """An exported model's probabilities differ from those of its head."""


class TuningError(FeatstoreError, ValueError):
    """A network cannot be fine-tuned as asked."""


class HeadError(FeatstoreError, ValueError):
    """A head cannot be fitted, saved, loaded or used."""


class UnknownHeadError(HeadError, LookupError):
    """No head has this name."""


class FingerprintMismatchError(HeadError):
    """Features or a backbone have another fingerprint than the head expects."""


class UntrustedTypeError(HeadError, PermissionError):
    """A head file holds types that featstore does not trust."""


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of any error's message; of others' at most 200 characters."""
    line = message_lines(error)[0]
    return line if isinstance(error, FeatstoreError) else _shortened(line)


def last_line(error: BaseException) -> str:
    """Return the last non-empty line of any error's message; of others' at most 200 characters."""
    line = message_lines(error)[-1]
    return line if isinstance(error, FeatstoreError) else _shortened(line)


def message_lines(error: BaseException) -> list[str]:
    """Return the non-empty lines of an error's message, or the name of its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines or [type(error).__name__]


def _shortened(line: str) -> str:
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…"
