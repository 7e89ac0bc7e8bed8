"""Export of features and labels to TensorBoard's embedding projector."""

import os

import numpy as np

from featstore.errors import NotInStoreError, OutputError, StoreError
from featstore.io.atomic import TEMPORARY_PREFIX, failure_reason, replacing, write_text
from featstore.io.new_folder import made_folder
from featstore.io.outputs import check_destination, check_output
from featstore.messages import printable
from featstore.splits import SplitRule
from featstore.store.packing.contents import feature_blocks
from featstore.store.tables.table import FeatureTable

__all__ = ["export_projector"]

_TENSORS, _METADATA, _CONFIG = "features.bytes", "metadata.tsv", "projector_config.pbtxt"


def export_projector(
    table: FeatureTable,
    folder: str | os.PathLike[str],
    *,
    rule: SplitRule | None = None,
    limit: int | None = 10_000,
    overwrite: bool = False,
) -> int:
    """Write a table's features and labels as files of TensorBoard's embedding projector.

    Three files: ``features.bytes``, the features as little-endian float32, row by row; ``metadata.tsv``, the
    label, split, group and path of each row; and ``projector_config.pbtxt``, which names the two and is
    written last. View them with ``tensorboard --logdir FOLDER``.

    Parameters
    ----------
    table : FeatureTable
    folder : path_like
        Made if it is not there; otherwise it must be empty or hold such files.
    rule : SplitRule, optional
        Assigns the splits that the metadata lists; 80/10/10 by content by default.
    limit : int, optional
        The most images to write; above it, those with the smallest content hashes are taken, which are as
        good as drawn at random and stay the same. None writes all; the projector slows down beyond some ten
        thousand.
    overwrite : bool
        Whether these files of an earlier call may be replaced.

    Returns
    -------
    int
        Number of images written.

    Raises
    ------
    NotInStoreError
        The table has no rows.
    OutputError
        A file is there already, or the folder holds something else, or lies in a store.
    StoreError
        ``limit`` is below 1, or a file cannot be written.

    Examples
    --------
    >>> import os, tempfile
    >>> from featstore import FeatureStore, export_projector, extract
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     n_written = export_projector(FeatureStore(report.store).table(), f"{folder}/projector")
    ...     sorted(os.listdir(f"{folder}/projector"))
    ['features.bytes', 'metadata.tsv', 'projector_config.pbtxt']
    """
    if limit is not None and limit < 1:
        raise StoreError(f"limit must be at least 1; found {limit}")
    if not len(table):
        raise NotInStoreError(f"the table {table.catalog_name} has no images to write")
    check_destination(folder)
    home = os.path.abspath(os.fspath(folder))
    _check_folder(home)
    splits = table.splits(rule)
    if limit is not None and limit < len(table):
        chosen = np.sort(np.lexsort(table.content_hash_bytes.T[::-1])[:limit])
        table, splits = table.select(chosen), splits[chosen]
    with made_folder(home):
        for name in (_TENSORS, _METADATA, _CONFIG):
            check_output(os.path.join(home, name), overwrite=overwrite)
        with replacing(os.path.join(home, _TENSORS)) as temporary, open(temporary, "xb") as file:
            for block in feature_blocks(table):
                file.write(np.ascontiguousarray(block, "<f4").tobytes())
        rows = zip(
            table.label_texts.tolist(),
            splits.tolist(),
            table.groups.tolist(),
            table.relative_paths,
            strict=True,
        )
        lines = ["label\tsplit\tgroup\tpath", *("\t".join(map(_cell, row)) for row in rows)]
        write_text(os.path.join(home, _METADATA), "\n".join(lines) + "\n")
        write_text(
            os.path.join(home, _CONFIG),
            "embeddings {\n"
            f'  tensor_name: "{table.space_name}"\n'
            f'  tensor_path: "{_TENSORS}"\n'
            f"  tensor_shape: {len(table)}\n"
            f"  tensor_shape: {table.feature_dim}\n"
            f'  metadata_path: "{_METADATA}"\n'
            "}\n",
        )
    return len(table)


def _check_folder(home: str) -> None:
    """Raise OutputError for a folder of other files; those that an interrupted call left are no others."""
    if not os.path.isdir(home):
        return
    try:
        names = sorted(os.listdir(home))
        others = [
            name
            for name in names
            if name not in (_TENSORS, _METADATA, _CONFIG) and not name.startswith(TEMPORARY_PREFIX)
        ]
        if not others or (_CONFIG in names and _is_ours(os.path.join(home, _CONFIG))):
            return
    except OSError as error:
        raise OutputError(f"cannot read the folder {home}: {failure_reason(error)}") from error
    raise OutputError(
        f"{home} holds {others[0]} and no projector that featstore wrote, and nothing else is written into; "
        "choose another folder"
    )


def _is_ours(config: str) -> bool:
    with open(config, "rb") as file:
        return f'tensor_path: "{_TENSORS}"'.encode() in file.read(10_000)


def _cell(text: str) -> str:
    """Return a text as UTF-8 without tabs and line breaks."""
    return printable(text).encode("utf-8", "backslashreplace").decode("utf-8")
