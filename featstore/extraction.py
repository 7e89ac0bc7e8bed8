"""Extraction of a source: in this process, one shard of it, or on a cluster."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from featstore.errors import CorrectionsError, ExtractionError
from featstore.flow.extraction import ExtractionReport, run_extraction
from featstore.flow.shard_choice import ShardChoice
from featstore.store import Corrections, read_corrections

if TYPE_CHECKING:
    import keras

    from featstore.backbones import Backbone
    from featstore.flow.shard import Executor
    from featstore.store import FeatureStore

__all__ = ["extract"]


def extract(
    source: Any,
    store: "str | os.PathLike[str] | FeatureStore | None" = None,
    *,
    backbone: "str | os.PathLike[str] | keras.Model | Backbone | Sequence[Backbone]" = "mobilenet_v2",
    n_views: int = 1,
    catalog: str | None = None,
    train_list: str | os.PathLike[str] | None = None,
    validation_list: str | os.PathLike[str] | None = None,
    test_list: str | os.PathLike[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    weight_column: str | None = None,
    label_columns: Sequence[str] = (),
    label_separator: str | None = None,
    target: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    suffix: str | None = None,
    corrections: "Corrections | str | os.PathLike[str] | None" = None,
    strict: bool = False,
    rehash: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    shard: tuple[int, int] | None = None,
    ray: bool | str = False,
    **backbone_options: Any,
) -> ExtractionReport:
    """Extract the features of all images of a source into a store.

    Images whose content is in the store's space already cost no forward pass; files that are unchanged since
    the last time (same path, size, times and inode) are not even opened. Of several views those that are
    there cost none either, and an image is read and decoded once for all that it lacks.

    Parameters
    ----------
    source : path, iterable of path, or table
        A folder of class folders, a flat folder, a folder with a ``metadata.csv`` (column ``file_name``), a
        folder whose folders ``train``, ``test``, … hold class folders, a CSV, TSV or JSON Lines file with the
        columns ``path`` and, optionally, ``label``, ``group`` and ``split``, a ``.json`` with annotations of
        COCO, or files that hold many images, ``.zip``, ``.tar`` (WebDataset), ``.parquet`` (Hugging Face's,
        needs ``pip install "featstore[parquet]"``) or TFRecord: one, their folder, a pattern such as
        ``"train-*"``, or a list of them. Or a prefix of an object store, such as ``"s3://bucket/folder"``,
        which is read as a folder is. Or a list of paths or URLs, which have no labels, or a table with these
        columns, such as a pandas DataFrame: its relative paths start from the current folder, and its catalog
        is called ``"images"`` by default.
    store : path or FeatureStore, optional
        Made where it does not exist; it may lie in a bucket, as ``"s3://bucket/flowers.fstore"``. By default
        ``NAME.fstore`` in the current folder, after the source.
    backbone : str, path, keras.Model, Backbone or sequence of Backbone
        Name of a known backbone, path of a ``.keras`` model, a Keras model, or what
        :func:`featstore.load_backbone` returned. Several fill a space each; those that are layers of one
        network are computed in one pass.
    n_views : int
        Number of views of each image, 0 to ``n_views - 1``, that the store will have. View 0 is the image
        itself; the others are drawn by the backbone option ``views``, a :class:`~featstore.ViewRecipe`.
    catalog : str, optional
        Name for this source's paths and labels in the store; by default after the source. Where there is none
        of that name, and one whose source is gone has most of its images here, that one follows its images.
    train_list, validation_list, test_list : path, optional
        Text files with one image of the source a line, such as ``apple_pie/1005649``: its path in the source,
        with or without its extension. The images get these splits; those in no list are left to the split
        rule, and so is every image when a later call gives no lists.
    path_column, label_column : str, optional
        The columns of a list that hold paths and labels, where they have other names.
    weight_column : str, optional
        The column of a list that holds how much each image counts in a fit: a number above 0.
    label_columns : sequence of str
        Columns of a list that hold 0 or 1, one for each label; an image may have several of them, or none.
    label_separator : str, optional
        Images may have several labels, in one cell with this between them, such as ``"|"``, or because the
        same content lies in several class folders or rows. A cell with the separator alone is an image with
        none of the labels; an empty one is unknown.
    target : str, optional
        The column of a list that holds a number for each image, which heads are to predict; the catalog has
        it in place of labels. An empty cell is unknown.
    image_root : path, optional
        Folder that a list's relative paths start from; by default its own.
    suffix : str, optional
        What is appended to a list's paths or ids, such as ``".jpg"``, where they lack it.
    corrections : Corrections or path, optional
        Corrections of labels, or their file, for the catalog: images that they leave out are listed in it and
        are in no table. Without them the labels are those of the source again.
    strict : bool
        Stop at the first image that cannot be decoded instead of recording its reason and going on.
    rehash : bool
        Read every file again, including those whose size, times and inode are unchanged. Images whose
        content is the same cost no forward pass.
    workers : int, optional
        Threads that read and decode; by default one for each core.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of images.
    shard : (int, int), optional
        ``(3, 16)`` extracts the third of 16 parts of the source, counted from 1, and leaves its catalog to
        :func:`featstore.collect`. An image's part is a function of its path, whatever else is in the source.
    ray : bool or str
        Extract on a Ray cluster, whose nodes see source and store under the same paths: its address, or
        True for the one that this process is connected to or else a local one. A task takes ``threads``
        processors, by default one; where the cluster has GPUs, it takes one of these, and by default an equal
        share of its node's processors. Needs ``pip install "featstore[ray]"``.
    **backbone_options
        As for :func:`featstore.load_backbone`: ``weights``, ``layer``, ``pooling``, ``image_size``,
        ``resize``, ``dtype``, ``precision``, ``preprocess``, ``alpha``, ``views``, ``engine``,
        ``devices``, ``threads``, ``trust_model``, ``imports``. With lists, ``layer=["out_relu",
        "block_13_expand_relu"]`` and ``image_size=[224, 320]``, each layer at each size fills a space of its
        own, the same as if it were extracted alone; layers of one size are computed in one pass.
        ``features="rich"`` is short for the last layer and the last one at twice its height and width.

    Returns
    -------
    ExtractionReport

    Raises
    ------
    SourceUnavailableError
        A server of images cannot be reached or refuses; what was read is stored, and the same call goes on.
    SourceError
        The source cannot be used, a list does not fit it, or its catalog's name is taken by another source.
    BackboneError
        The backbone cannot be built.
    ViewError
        ``n_views`` does not go with the recipe: more than 1 needs one, and one needs more than 1.
    StoreError
        The store cannot be opened or written.
    ExtractionError
        Every image failed, or one did and ``strict`` is true. Or the cluster cannot be used.
    CorrectionsError
        The file of corrections cannot be used, or they are given for a shard, whose labels are for
        :func:`featstore.collect`.
    MissingExtraError
        Ray is not installed, or pyarrow for Parquet files.
    ExtractionInterrupted
        Ctrl-C; what was done is sealed.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import ViewRecipe, extract
    >>> from featstore.images import write_digits
    >>> recipe = ViewRecipe(flip=True, random_crop=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = f"{folder}/digits.fstore"
    ...     n_images = write_digits(f"{folder}/digits", n_images=10)
    ...     report = extract(
    ...         f"{folder}/digits", store=store, backbone="scattering", n_views=2, views=recipe
    ...     )
    >>> report.extracted_views
    20
    """
    source_options = {
        "train_list": train_list,
        "validation_list": validation_list,
        "test_list": test_list,
        "path_column": path_column,
        "label_column": label_column,
        "weight_column": weight_column,
        "label_columns": label_columns,
        "label_separator": label_separator,
        "target": target,
        "image_root": image_root,
        "suffix": suffix,
    }
    if corrections is not None and shard is not None:
        raise CorrectionsError("a shard has no catalog: give the corrections to collect, which writes it")
    if corrections is not None and not isinstance(corrections, Corrections):
        corrections = read_corrections(corrections)
    with _executor(ray, backbone, backbone_options) as executor:
        return run_extraction(
            source,
            store,
            backbone=backbone,
            n_views=n_views,
            catalog=catalog,
            source_options=source_options,
            strict=strict,
            rehash=rehash,
            workers=workers,
            progress=progress,
            shard=None if shard is None else ShardChoice(*shard),
            executor=executor,
            corrections=corrections,
            **backbone_options,
        )


def _executor(
    ray: bool | str, backbone: Any, backbone_options: dict[str, Any]
) -> AbstractContextManager["Executor | None"]:
    """Return what runs the shards, None for this process."""
    if not ray:
        return nullcontext()
    if backbone_options.get("devices"):
        raise ExtractionError("devices are those of one machine; on a Ray cluster each task has its own GPU")
    from featstore.cluster.ray_executor import RayExecutor

    return RayExecutor(
        None if ray is True else ray,
        threads=backbone_options.get("threads") or getattr(backbone, "threads", None),
        uses_gpus=backbone_options.get("engine") != "openvino",
    )
