"""Export of a head to a folder with one verified model file."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featstore.backbones.joint import JointBackbone, joint_backbones
from featstore.backbones.parts import WeightsFiles, backbones_from_spec
from featstore.errors import BackboneError, ExportError, FingerprintMismatchError
from featstore.export.card import CARD, LABELS, PHOTO, labels_text, model_card, photo_module
from featstore.export.description import DESCRIPTION, RUNTIMES, ModelDescription, file_digests
from featstore.export.exported import ExportedModel
from featstore.export.folder import check_place, write_text
from featstore.export.head_forms import LINEAR_HEADS, feature_centre, head_form
from featstore.export.photos import choose, read_photos
from featstore.export.pictures import check_pictures
from featstore.export.verification import check_tolerance, verify
from featstore.extras import check_extra
from featstore.heads import AnyHead, Head, MultiLabelHead, RegressionHead, load_head
from featstore.heads.forms.gated import GatedForm
from featstore.heads.forms.kernel import KernelForm
from featstore.heads.forms.linear import LinearForm
from featstore.heads.forms.network import NetworkForm
from featstore.io.new_folder import files_below, new_folder
from featstore.io.outputs import check_destination
from featstore.version import __version__

if TYPE_CHECKING:
    from featstore.store import FeatureTable

__all__ = ["FORMATS", "QUANTIZATIONS", "export_head"]

FORMATS = tuple(RUNTIMES)
QUANTIZATIONS = ("float16", "int8")

_log = logging.getLogger(__name__)

# What a format needs beyond what featstore does: to be written, and to be run.
_WRITES = {"onnx": ("onnx", "tf2onnx")}
_RUNS = {"onnx": ("onnxruntime",), "tflite": ("ai_edge_litert",)}

_CALIBRATION_PHOTOS = 200


def export_head(
    head: AnyHead | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    format: str = "saved_model",  # noqa: A002
    table: "FeatureTable | None" = None,
    weights: WeightsFiles | None = None,
    test_views: int | None = None,
    quantize: str | None = None,
    verify: bool = True,
    overwrite: bool = False,
    trust_model: bool = False,
    imports: Sequence[str] = (),
    progress: Callable[[int, int], Any] | None = None,
) -> ExportedModel:
    """Write a head and its backbone as one model file, from uint8 pixels to probabilities.

    The file runs without featstore. It is checked before it appears: run by its own runtime on the test
    photos, it must give the probabilities that the head gives for their stored features.

    A model takes an image's pixels, once, and does the rest itself. So a head on several spaces becomes a
    model with several networks where these see the same pixels, and one that averages over the image and its
    mirror image becomes a model that does so. Other views are drawn from the content of a file, which a model
    does not see: ``test_views=1`` writes the head as it is for the image itself.

    Parameters
    ----------
    head : Head, MultiLabelHead, RegressionHead or path
        A linear head: ``centroid``, ``lda``, ``logistic``, ``ridge``, ``sgd``, ``softmax``, ``svm`` or
        a linear classifier of your own; ``mlp``; ``rbf``; or one that was imported or extended. Of one that
        gives several labels, each probability is a sigmoid, and ``model.json`` has the thresholds. Of heads
        that predict a number, ``ridge`` and ``rbf``; the output is the number then, called ``values``.
    out : path_like
        Folder to create. Beside the model it gets ``labels.txt``, ``model.json``, ``photo.py``, which reads
        photos for it, and ``model_card.md`` with a program that labels one. It is written under another name
        and renamed when all is well.
    format : {"saved_model", "keras", "tflite", "onnx", "openvino"}
    table : FeatureTable, optional
        The features that the head was fitted on, with the paths of their photos: for the verification, and
        for ``quantize="int8"``. Without it the model is written unverified.
    weights : path_like or sequence of path_like, optional
        The backbone's weights file, if it is not where the head remembers it; of a head on
        several spaces as for :class:`featstore.Predictor`.
    test_views : int, optional
        How many views of an image the model averages over: 1, or 2 where the second is the mirror image. By
        default as many as the head does.
    quantize : {"float16", "int8"}, optional
        Round the weights of a ``tflite`` model; with ``"int8"`` the backbone's activations too, whose ranges
        are found on at most 200 training photos.
    verify : bool
        Whether to run the model on test photos, at most 1,000.
    overwrite : bool
        Whether an exported model that is there may be replaced.
    trust_model, imports
        As for :func:`featstore.load_backbone`.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of photos verified.

    Returns
    -------
    ExportedModel

    Raises
    ------
    ExportError
        The head or the network cannot be expressed in the format; ``out`` is there; or an argument has a
        value that it cannot have.
    VerificationError
        The model's probabilities differ from the head's; nothing is left behind.
    MissingExtraError
        The format needs a package that is not installed; the message names the extra.
    OutputError
        ``out`` lies in a store.
    FingerprintMismatchError
        The weights, or the table, are not those that the head was fitted on.
    BackboneError
        The backbone's weights are not available.

    Examples
    --------
    >>> import tempfile
    >>> from featstore import FeatureStore, export_head, extract, fit
    >>> from featstore.images import write_digits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     n_images = write_digits(f"{folder}/digits", n_images=60)
    ...     report = extract(f"{folder}/digits", store=f"{folder}/digits.fstore", backbone="scattering")
    ...     table = FeatureStore(report.store).table()
    ...     head = fit(table, head="svm")
    ...     model = export_head(head, f"{folder}/model", format="keras", table=table)
    >>> model.description.verification["largest_difference"] < 1e-3
    True
    """
    _check_choices(format, quantize, runs=verify and table is not None)
    check_destination(out)
    place = os.path.realpath(os.fspath(out))
    check_place(place, overwrite=overwrite)
    if not isinstance(head, AnyHead):
        head = load_head(os.fspath(head))
    if not isinstance(head, Head) and quantize == "int8":
        kind = "the thresholds of several labels" if isinstance(head, MultiLabelHead) else "numbers"
        raise ExportError(f"int8 rounds more than {kind} tolerate; use float16")
    form = head_form(head)
    if quantize == "int8" and (
        isinstance(form, KernelForm) or (isinstance(form, GatedForm) and form.has_kernel)
    ):
        raise ExportError(
            f"int8 rounds features too much for the distances of the head {head.name}; use float16, or a "
            f"linear head: {', '.join(LINEAR_HEADS)}"
        )
    if isinstance(head, RegressionHead) and test_views not in (None, 1):
        raise ExportError(f"a head that predicts a number looks at one view; found test_views={test_views}")
    seen = head
    if test_views is not None and not isinstance(head, RegressionHead):
        seen = replace(head, test_views=test_views)
    check_pictures(seen.spec, seen.test_views)
    labels = labels_text(head.classes.tolist())
    if table is not None:
        head.check_fingerprint(table.fingerprint, spec=table.spec)
    samples = _samples(head, table) if quantize == "int8" else []
    model = _fused(seen, form, weights, runtime=format, trust_model=trust_model, imports=imports)

    code: dict[str, Any] = {"trust_model": trust_model, "imports": imports} if format == "keras" else {}
    with new_folder(place, overwrite=overwrite, error_class=ExportError) as folder:
        described = _written(
            model,
            head,
            folder,
            runtime=format,
            test_views=seen.test_views,
            quantize=quantize,
            samples=samples,
        )
        written = ExportedModel(described, path=folder, **code)
        described = replace(described, verification=_verified(written, seen, table, verify, progress))
        if labels:
            write_text(os.path.join(folder, LABELS), labels)
        write_text(os.path.join(folder, CARD), model_card(described))
        write_text(os.path.join(folder, PHOTO), photo_module())
        write_text(os.path.join(folder, DESCRIPTION), described.to_json())
    return ExportedModel(described, path=place, **code)


def _check_choices(format: str, quantize: str | None, *, runs: bool) -> None:  # noqa: A002
    if format not in FORMATS:
        raise ExportError(f"a format must be one of {', '.join(FORMATS)}; found {format!r}")
    if quantize is not None and quantize not in QUANTIZATIONS:
        raise ExportError(f"weights are quantized to {' or '.join(QUANTIZATIONS)}; found {quantize!r}")
    if quantize is not None and format != "tflite":
        raise ExportError(f"only the format tflite is quantized; found {quantize} with {format}")
    needed = (*_WRITES.get(format, ()), *(_RUNS.get(format, ()) if runs else ()))
    check_extra(format, f"the format {format}", *needed)


def _samples(head: AnyHead, table: "FeatureTable | None") -> list[NDArray[np.uint8]]:
    if table is None:
        raise ExportError(
            "int8 finds the ranges of the activations on training photos, and no store locates them; "
            "name it with --store, or use float16"
        )
    chosen = choose(table, "train", head.split_rule, limit=_CALIBRATION_PHOTOS)
    samples = [photo.pixels for photo in read_photos(chosen)]
    if not samples:
        raise ExportError(
            "int8 finds the ranges of the activations on training photos, and none is unchanged at its "
            "path in the catalog; use float16"
        )
    return samples


def _fused(
    head: AnyHead,
    form: LinearForm | GatedForm | KernelForm | NetworkForm,
    weights: WeightsFiles | None,
    *,
    runtime: str,
    trust_model: bool,
    imports: Sequence[str],
) -> Any:
    whole: dict[str, Any] = {"centre": feature_centre(head)}
    if isinstance(head, MultiLabelHead):
        whole["gives_several"] = True
    elif isinstance(head, RegressionHead):
        whole["predicts_number"] = True
    else:
        whole["temperature"] = head.temperature or 1.0
    try:
        # TensorFlow, so that the network itself is built: OpenVINO's would do with a converted one.
        backbones = backbones_from_spec(
            head.spec,
            weights=weights,
            remembered=head.weights,
            engine="keras",
            trust_model=trust_model,
            imports=imports,
        )
        joints = joint_backbones(backbones)
        if [at for _, members in joints for at in members] != [*range(len(backbones))]:
            # Layers of one network with others between them: the order of the columns is the head's.
            joints = [(JointBackbone([backbone]), [at]) for at, backbone in enumerate(backbones)]
        graphs = [backbone.spec.name for backbone in backbones if backbone.request.is_graph]
        are_onnx = all(backbone.request.architecture == "onnx" for backbone in backbones)
        if graphs and runtime not in (("openvino", "onnx") if are_onnx else ("openvino",)):
            raise ExportError(
                f"{graphs[0]} is run by OpenVINO and not by Keras; its heads are exported as openvino"
                f"{' or onnx' if are_onnx else ''}; found {runtime}"
            )
        if graphs:
            from featstore.export.fusing import head_model
            from featstore.export.stitching import StitchedModel

            return StitchedModel(
                networks=[joint.as_onnx() if runtime == "onnx" else joint.converted() for joint, _ in joints],
                head=head_model(form, feature_dim=head.feature_dim, **whole),
                test_views=head.test_views,
            )
        networks = [joint.build().model for joint, _ in joints]
    except FingerprintMismatchError:
        raise
    except BackboneError as error:
        raise type(error)(f"{error}; pass the weights file with --weights") from error
    from featstore.export.composing import average_with_mirrored, join_networks
    from featstore.export.fusing import fuse

    model = fuse(join_networks(networks), form, **whole)
    return model if head.test_views == 1 else average_with_mirrored(model)


def _written(
    model: Any,
    head: AnyHead,
    folder: str,
    *,
    runtime: str,
    test_views: int,
    quantize: str | None,
    samples: list[NDArray[np.uint8]],
) -> ModelDescription:
    from featstore.export.writers import write_model

    seen = head.spec.parts[0]
    essentials = {
        "classes": head.classes.tolist(),
        **seen.picture,
        "size_px": list(seen.size_px),
        "test_views": test_views,
        "rejects_below": head.rejects_below,
        "fingerprint": head.fingerprint,
    }
    thresholds = None
    if isinstance(head, MultiLabelHead):
        thresholds = tuple(head.thresholds.tolist())
        essentials["thresholds"] = [*thresholds]
    if target := getattr(head, "target", None):
        essentials["target"] = target
    write_model(model, folder, runtime=runtime, essentials=essentials, quantize=quantize, samples=samples)
    packages = (
        "keras",
        "tensorflow",
        *(("openvino",) if runtime == "openvino" else _WRITES.get(runtime, ())),
    )
    return ModelDescription(
        runtime=runtime,
        file=RUNTIMES[runtime],
        files=file_digests(folder, files_below(folder)),
        classes=tuple(head.classes.tolist()),
        spec=head.spec,
        test_views=test_views,
        rejects_below=head.rejects_below,
        quantization=quantize,
        thresholds=thresholds,
        target=target,
        head=_described(head, test_views=test_views, quantize=quantize),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"featstore": __version__, **{package: metadata.version(package) for package in packages}},
    )


def _described(head: AnyHead, *, test_views: int, quantize: str | None) -> dict[str, Any]:
    """Return what a description says of its head."""
    head_data = head.to_dict()
    kept = ["params", "catalog", "created", "seed", "split_rule", "validation", "test"]
    if isinstance(head, RegressionHead):
        kept += ["n_images", "train_numbers", "held_out_errors"]
        own = {name: head_data[name] for name in kept}
        return {"name": head.name, **own, "choice": {"fitted_on": head.fitted_on}}
    kept.append("counts")
    described = {"name": head.name, **{name: head_data[name] for name in kept}}
    if isinstance(head, MultiLabelHead):
        own = {name: head_data[name] for name in ("n_images", "train_views", "test_views")}
        return {**described, "choice": {"fitted_on": head.fitted_on}, **own}
    return {
        **described,
        **{name: head_data[name] for name in ("choice", "train_views", "test_views")},
        "reject": head.reject,
        "parents": head.parents,
        # Of a model whose probabilities are others, prediction sets would not be valid.
        "held_out": head.held_out if test_views == head.test_views and quantize != "int8" else {},
    }


def _verified(
    model: ExportedModel,
    head: AnyHead,
    table: "FeatureTable | None",
    wanted: bool,
    progress: Callable[[int, int], Any] | None,
) -> dict[str, Any]:
    if not wanted:
        return {"skipped": "it was not requested"}
    if table is None:
        result: dict[str, Any] = {"skipped": "the features that the head was fitted on were not at hand"}
    else:
        result = verify(model, head, table, progress=progress)
    if "skipped" in result:
        _log.warning("the exported model is not verified: %s", result["skipped"])
    check_tolerance(result)
    return result
