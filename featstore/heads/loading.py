"""Loading of a head of any kind."""

import os
from collections.abc import Sequence
from typing import TypeAlias

from featstore.errors import SeveralLabelsError, TargetError
from featstore.heads.head import Head
from featstore.heads.multilabel.head import MultiLabelHead
from featstore.heads.regression.head import RegressionHead

__all__ = ["AnyHead", "load_head"]

AnyHead: TypeAlias = Head | MultiLabelHead | RegressionHead
"""A head of any kind."""


def load_head(path: str | os.PathLike[str], trusted: Sequence[str | type] = ()) -> AnyHead:
    """Read a head from a file, whether it gives one label, several or a number, running no code in it.

    Parameters
    ----------
    path : path_like
    trusted : sequence of str or type
        As for :meth:`featstore.Head.load`.

    Returns
    -------
    Head, MultiLabelHead or RegressionHead

    Raises
    ------
    HeadError
        The file does not exist, is not a head, or is damaged.
    FormatVersionError
        A newer version of featstore wrote the file.
    UntrustedTypeError
        The file contains other types; the message names them.

    Examples
    --------
    >>> import tempfile
    >>> import featstore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     featstore.fit_labels(several, head="ridge").save(f"{folder}/several.head")
    ...     type(featstore.load_head(f"{folder}/several.head")).__name__
    'MultiLabelHead'
    """
    try:
        return Head.load(path, trusted=trusted)
    except SeveralLabelsError:
        return MultiLabelHead.load(path)
    except TargetError:
        return RegressionHead.load(path)
