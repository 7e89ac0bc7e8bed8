"""Find the store, head and features that a command line refers to."""

import glob
import os
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from featstore import FeatstoreError
from featstore.messages import listed, printable

from .image_paths import STDIN
from .options.shared import trusted_types, wanted_corrections, wants_verified_reads
from .printing import accuracy_text, corrections_text, note, share, short_path

if TYPE_CHECKING:
    from featstore import FeatureStore, FeatureTable, Head, MultiLabelHead, RegressionHead

__all__ = [
    "check_head_kind",
    "corrected",
    "find_head",
    "find_model",
    "find_table",
    "is_file",
    "load_any_head",
    "load_head",
    "note_replaced",
    "open_store",
    "output_path",
    "save_head",
]


def open_store(path: str | None, *, repair: bool = False) -> "FeatureStore":
    """Open the store at a path or, without one, the only store in the current folder."""
    from featstore import FeatureStore

    return FeatureStore(_store_path(path), repair=repair, verify_reads=wants_verified_reads())


def _store_path(path: str | None) -> str:
    if path is not None:
        return path
    found = _stores_here()
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.UsageError(
            f"no store given, and there is none (*.fstore) in {printable(os.getcwd())}; {_how()}, or create "
            "one with `featstore extract FOLDER`"
        )
    raise click.UsageError(f"there are several stores here, {_how()}: {printable(', '.join(found))}")


def _how() -> str:
    """Return how the running command is given its store: as an argument, or by an option."""
    context = click.get_current_context(silent=True)
    has_option = context is not None and any(
        isinstance(param, click.Option) and "--store" in param.opts for param in context.command.params
    )
    return "give --store" if has_option else "name one"


def _stores_here() -> list[str]:
    return sorted(glob.glob("*.fstore"))


def find_head(head: str, store: str | None) -> tuple[str, str | None]:
    """Return a head's file, and the store that it is in if it is in one."""
    # A pickle is treated as a file, so that it is refused for being one.
    if is_file(head) or head.endswith((".joblib", ".pickle", ".pkl")):
        from featstore.io import absolute_place, is_store

        _refuse_store(head)
        path = absolute_place(head)
        home = os.path.dirname(os.path.dirname(path))
        inside = os.path.basename(os.path.dirname(path)) == "heads" and is_store(home)
        return path, store or (home if inside else None)
    if store is None and len(stores := _stores_here()) > 1:
        store = _store_with(head, stores)
    opened = open_store(store)
    if head not in opened.head_names:
        _refuse_store(head)
        known = ", ".join(opened.head_names) or "none yet: train one with `featstore fit`"
        raise click.UsageError(f"{opened.path} has no head {head!r}; it has {known}. File names end in .head")
    return opened.head_path(head), opened.path


def _refuse_store(head: str) -> None:
    """Refuse a store where a head is to be given."""
    if not os.path.isdir(head):
        return
    from featstore import FeatureStore
    from featstore.io import is_store

    if is_store(head):
        known = listed(FeatureStore(head).head_names) or "none yet: train one with `featstore fit`"
        raise click.UsageError(
            printable(f"{head} is a store, and HEAD is one of its heads, which is given by its name: {known}")
        )


def _store_with(head: str, stores: Sequence[str]) -> str:
    """Return the one of several stores that has a head of a name, and print a note of it."""
    from featstore import FeatureStore

    known: dict[str, tuple[str, ...]] = {}
    for path in stores:
        with suppress(FeatstoreError):
            known[path] = FeatureStore(path).head_names
    having = [path for path, names in known.items() if head in names]
    if len(having) == 1:
        note(f"{having[0]} is taken, the only store here with a head {head!r}")
        return having[0]
    _refuse_store(head)
    if having:
        told = f"there are several stores here, and {listed(having)} have the head {head!r}: give --store"
    else:
        heads = "; ".join(f"{path} has {listed(names) or 'none'}" for path, names in known.items())
        told = f"none of the stores here has a head {head!r}: {heads}. File names end in .head"
    raise click.UsageError(printable(told))


def check_head_kind(name: str, store: "FeatureStore") -> None:
    """Refuse the name of a fitted head where --head takes a kind of head."""
    from featstore import known_heads

    if name in store.head_names and name not in {info.name for info in known_heads()}:
        spaces = load_any_head(store.head_path(name)).space.replace("+", " --space ")
        raise click.UsageError(
            f"--head takes a kind of head, one of `featstore heads`, and {name} is a head of {store.path}; "
            f"for the features that it takes give --space {spaces}"
        )


def load_head(path: str) -> "Head":
    """Load a head's file, with the types that the command was given with --trust."""
    from featstore import Head

    return Head.load(path, trusted=trusted_types())


def load_any_head(path: str) -> "Head | MultiLabelHead | RegressionHead":
    """Load a head's file, whether it gives one label, several or a number."""
    import featstore

    return featstore.load_head(path, trusted=trusted_types())


def find_model(
    model: str, store: str | None, images: Sequence[str]
) -> "str | Head | MultiLabelHead | RegressionHead":
    """Return the head, or the path of the exported model, that is given before the images to classify."""
    from featstore.prediction import is_exported

    _refuse_swapped(model, images, store)
    if not is_exported(model):
        return load_any_head(find_head(model, store)[0])
    if trusted_types():
        raise click.UsageError("--trust is for heads; an exported model holds no types to trust")
    return model


def _refuse_swapped(model: str, images: Sequence[str], store: str | None) -> None:
    """Refuse images given before the head."""
    from featstore.prediction import is_exported

    is_there = os.path.lexists(model) or glob.has_magic(model)
    if not is_there or model.endswith(".head") or is_exported(model):
        return
    names: tuple[str, ...] = ()
    if not all(map(os.path.lexists, images)):
        with suppress(click.UsageError, FeatstoreError, OSError):
            names = open_store(store).head_names
    if model in names:
        return
    for image in images:
        is_file = os.path.isfile(image) and image.endswith(".head")
        if is_file or image in names or (image != STDIN and is_exported(image)):
            rest = [model, *(one for one in images if one != image)]
            raise click.UsageError(
                f"the head comes first: {printable(shlex.join(['featstore', 'predict', image, *rest]))}"
            )


def is_file(head: str) -> bool:
    """Return whether a head is given as a file rather than by its name in a store."""
    return head.endswith(".head") or os.path.basename(head) != head


def output_path(output: str, store: str | None, *, force: bool, inputs: Iterable[str] = ()) -> str:
    """Return the path to save a head at: a file NAME.head that may be written, or its place in a store."""
    from featstore.io import check_head_output, check_output, is_url

    if is_file(output):
        inputs = [*inputs]
        if not output.endswith(".head") and not is_url(output):
            # The name of a folder or of a photo is a slip, also where nothing would be written over it.
            if os.path.isdir(output) or os.path.isfile(output):
                check_output(output, overwrite=True, inputs=inputs)
            output += ".head"
        return check_head_output(output, overwrite=force, inputs=inputs)
    return check_head_output(open_store(store).head_path(output))


def save_head(head: "Head | MultiLabelHead | RegressionHead", path: str, *, force: bool) -> None:
    """Save a head, and print a note of the one that it replaces."""
    note_replaced(path)
    head.save(path, overwrite=force)


def note_replaced(path: str) -> None:
    """Print a note of the head that is about to be replaced, if there is one."""
    from featstore.errors import UntrustedTypeError
    from featstore.io import file_exists

    if not file_exists(path):
        return
    try:
        old = load_any_head(path)
    except UntrustedTypeError:
        note(f"replacing the head {short_path(path)}")
        return
    except FeatstoreError:
        note(f"replacing {short_path(path)}, which cannot be read")
        return
    test = ""
    if old.test["n"] and "map" in old.test:
        test = f", test mAP {share(old.test['map'])}"
    elif old.test["n"] and "mae" in old.test:
        test = f", test mean absolute error {old.test['mae']:.4g}"
    elif old.test["n"]:
        test = f", test accuracy {accuracy_text(old.test, old.test['n'])}"
    note(f"replacing the head {short_path(path)} of {old.created}{test}")


def find_table(
    head: "Head | MultiLabelHead | RegressionHead", home: str | None, catalog: tuple[str, ...] = ()
) -> "FeatureTable":
    """Open the features that a head was trained on, with the given catalogs or else the head's own."""
    opened = open_store(home)
    missing = [part.name for part in head.spec.parts if part.name not in opened.space_names]
    if missing:
        spaces = ", ".join(opened.feature_space_names) or "none"
        raise click.UsageError(
            f"the head was trained on features of {', '.join(missing)}; {opened.path} has {spaces}. "
            "Give its store with --store"
        )
    # An imported head was fitted on no catalog.
    catalogs = catalog or tuple(filter(None, head.catalog.split("+")))
    return corrected(opened.table(space=[part.name for part in head.spec.parts], catalog=catalogs or None))


def corrected(table: "FeatureTable") -> "FeatureTable":
    """Return a table with the labels that the command's --corrections make of it."""
    path = wanted_corrections()
    if path is None:
        return table
    import featstore

    corrections = featstore.read_corrections(path)
    right = featstore.correct_labels(table, corrections)
    effect = featstore.correction_effect(table, corrections)
    note(f"{path}: {corrections_text(effect.to_dict())}")
    return right
