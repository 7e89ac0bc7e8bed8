"""Files for people beside an exported model: ``labels.txt``, ``model_card.md`` and ``photo.py``."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from featstore.backbones.spec import BackboneSpec
from featstore.errors import ExportError
from featstore.export.description import ModelDescription
from featstore.export.hierarchy_card import hierarchy_section
from featstore.export.number_card import OPEN_NUMBER, number_scores, training_numbers
from featstore.export.runtimes import (
    ENCODED,
    ENCODED_SIGNATURE,
    IMAGES_SIGNATURE,
    INPUT,
    LABEL,
    OUTPUT,
    VALUES,
)
from featstore.heads import least_calibrating, n_calibrating, rejected_word, set_thresholds
from featstore.messages import printable

__all__ = ["CARD", "LABELS", "PHOTO", "labels_text", "model_card", "photo_module"]

CARD, LABELS, PHOTO = "model_card.md", "labels.txt", "photo.py"
"""The files' names."""

_COVERAGES = (0.8, 0.9, 0.95, 0.99)

_RESIZE = {
    "stretch": "resized to that, whatever the aspect ratio",
    "crop": "cut to the largest centred part of that aspect ratio, then resized",
    "pad": "resized to fit inside, then centred on black",
}

_VIEWS = {
    1: "",
    2: " The model looks at the image and at its mirror image, and its probabilities are their mean.",
}

_FORMATS = {
    "keras": "a Keras model",
    "saved_model": "a TensorFlow SavedModel",
    "tflite": "a LiteRT (TensorFlow Lite) model",
    "onnx": "an ONNX model",
    "openvino": "an OpenVINO model",
}

_OPEN = """\
from pathlib import Path

{imports}
from photo import read_photo

labels = Path("labels.txt").read_text(encoding="utf-8", errors="replace").splitlines()
pixels = read_photo("photo.jpg", {seen})[None]
{run}
print({label}, probabilities.max())
"""

_LABEL = "labels[probabilities.argmax()]"

_OPEN_SEVERAL = """\
import json
from pathlib import Path

{imports}
from photo import read_photo

labels = Path("labels.txt").read_text(encoding="utf-8", errors="replace").splitlines()
thresholds = json.loads(Path("model.json").read_text(encoding="utf-8"))["thresholds"]
pixels = read_photo("photo.jpg", {seen})[None]
{run}
print([label for label, p, least in zip(labels, probabilities, thresholds) if p >= least])
"""

_RUN_CODE = {
    "keras": (
        "import keras",
        'model = keras.saving.load_model("model.keras", compile=False)\n'
        "(probabilities,) = model.predict_on_batch(pixels)",
    ),
    "saved_model": (
        "import tensorflow as tf",
        'model = tf.saved_model.load(".")\n'
        f'answer = model.signatures["{IMAGES_SIGNATURE}"]({INPUT}=tf.constant(pixels))\n'
        f'probabilities = answer["{OUTPUT}"].numpy()[0]',
    ),
    "tflite": (
        "from ai_edge_litert.interpreter import Interpreter",
        'run = Interpreter("model.tflite").get_signature_runner()\n'
        f'probabilities = run({INPUT}=pixels)["{OUTPUT}"][0]',
    ),
    "onnx": (
        "import onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        f'probabilities = session.run(["{OUTPUT}"], {{"{INPUT}": pixels}})[0][0]',
    ),
    "openvino": (
        "import openvino",
        # Or OpenVINO computes in bfloat16 on processors that have it.
        'exact = {"INFERENCE_PRECISION_HINT": "f32"}\n'
        'model = openvino.Core().compile_model("model.xml", "CPU", exact)\n'
        f'probabilities = model({{"{INPUT}": pixels}})["{OUTPUT}"][0]',
    ),
}


def labels_text(classes: Sequence[str]) -> str:
    """Return ``labels.txt``: one label a line, in the order of the probabilities."""
    for label in classes:
        if label.splitlines() != [label]:
            raise ExportError(
                f"{LABELS} holds one label a line, and the label {label!r} has a line break; "
                "relabel its images and fit the head again"
            )
    return "".join(f"{label}\n" for label in classes)


def photo_module() -> str:
    """Return ``photo.py``, the source of featstore's own decoding."""
    return files("featstore.images").joinpath("photo.py").read_text(encoding="utf-8")


def model_card(described: ModelDescription) -> str:
    """Return ``model_card.md``: the model, its accuracy, its use, and its verification."""
    # The sections follow Mitchell et al., "Model cards for model reporting", FAT* 2019.
    parts = [_title(described), _classes(described), _scores(described), _input(described), _use(described)]
    parts[2:2] = hierarchy_section(described)
    return "\n".join([*parts, _verification(described), _origin(described)])


def _title(described: ModelDescription) -> str:
    head, parts = described.head, described.spec.parts
    networks = " and ".join(part.architecture for part in parts)
    kind = "classes" if described.thresholds is None else "labels"
    answers = _cell(described.target or f"{len(described.classes)} {kind}")
    rounded = "" if described.quantization is None else f", rounded to {described.quantization}"
    return (
        f"# {_cell(head['catalog'] or networks)}: {answers} of images\n\n"
        f"`{described.file}` is {_FORMATS[described.runtime]}{rounded}: from pixels to {_answer(described)}, "
        f"{networks} with the head {head['name']} on it. Written by featstore "
        f"{described.versions['featstore']} on {described.created}.\n"
    )


def _classes(described: ModelDescription) -> str:
    if described.target is not None:
        return training_numbers(described)
    counts = described.head["counts"]
    if described.thresholds is not None:
        return _labels(described, described.thresholds)
    if not any(counts.values()):
        lines = ["## Classes", "", *(f"- {_cell(label)}" for label in described.classes)]
        return "\n".join([*lines, "", "No image of a catalog was used to make the head.", ""])
    lines = ["## Classes", "", "| class | " + " | ".join(counts) + " |", "| --- |" + " ---: |" * len(counts)]
    for label in described.classes:
        row = " | ".join(f"{split.get(label, 0):,}" for split in counts.values())
        lines.append(f"| {_cell(label)} | {row} |")
    totals = " | ".join(f"{sum(split.values()):,}" for split in counts.values())
    rule = ", ".join(f"{name} {value}" for name, value in described.head["split_rule"].items() if value)
    splits = f"Images were split {rule}; splits given by the source take precedence."
    return "\n".join([*lines, f"| all | {totals} |", "", splits, ""])


def _labels(described: ModelDescription, thresholds: Sequence[float]) -> str:
    counts = described.head["counts"]
    lines = ["## Labels", "", "An image may have several, or none.", ""]
    lines += [
        "| label | " + " | ".join(counts) + " | given from |",
        "| --- |" + " ---: |" * (len(counts) + 1),
    ]
    for label, least in zip(described.classes, thresholds, strict=True):
        row = " | ".join(f"{split.get(label, 0):,}" for split in counts.values())
        lines.append(f"| {_cell(label)} | {row} | {least:.4g} |")
    totals = " | ".join(f"{n:,}" for n in described.head["n_images"].values())
    return "\n".join([*lines, f"| images | {totals} | |", ""])


def _scores(described: ModelDescription) -> str:
    if described.target is not None:
        return number_scores(described)
    head = described.head
    if described.thresholds is not None:
        lines = [f"- {split}: {_label_scores(head[split])}" for split in ("validation", "test")]
        return "\n".join(["## Scores", "", *lines, ""])
    splits = ("validation", "test")
    lines = ["## Scores", "", *(f"- {split}: {_accuracy(head[split], head[split]['n'])}" for split in splits)]
    if (of_head := head.get("test_views", 1)) != described.test_views:
        lines.append(
            f"- These are the head's, which averages over {of_head} views of each image; this model looks "
            f"at {described.test_views}."
        )
    if described.rejects_below:
        lines.append(
            f"- The answer is unknown where no class has a probability of {described.rejects_below:g}."
        )
        answered = (head["reject"] or {}).get("test", {})
        if answered.get("n_answered") and head["reject"]["below"] == described.rejects_below:
            accuracy = _accuracy(answered, answered["n_answered"])
            lines.append(f"  Of the test images {answered['coverage']:.1%} are answered: {accuracy}")
    else:
        lines.append("- There is always an answer, however small its probability.")
    return "\n".join([*lines, *_sets(described), ""])


def _sets(described: ModelDescription) -> list[str]:
    """Return from which probability on a class is in the prediction set, if images were held out."""
    held_out = described.head.get("held_out", {})
    n = n_calibrating(held_out)
    able = [coverage for coverage in _COVERAGES if n >= least_calibrating(coverage)]
    if not able:
        return []
    found = {
        coverage: set_thresholds(
            held_out, described.classes, coverage=coverage, by_class=False, name="the model"
        )[0]
        for coverage in able
    }
    rows = [f"| {coverage:.0%} | {threshold:.4g} |" for coverage, threshold in found.items()]
    return [
        "",
        "The most probable class, with all of at least this probability, are a set that holds the right one "
        f"so often (conformal prediction, calibrated on {n:,} held-out images):",
        "",
        "| coverage | probability |",
        "| ---: | ---: |",
        *rows,
    ]


def _input(described: ModelDescription) -> str:
    height, width = described.size_px
    rows = "each row with the sum 1" if described.thresholds is None else "each label by itself"
    output = f"`{OUTPUT}`: (n, {len(described.classes)}) float32, {rows}, in the order of `labels.txt`"
    if described.target is not None:
        output = f"`{VALUES}`: (n, 1) float32, {_cell(described.target)} of each image"
    return (
        "## Input and output\n\n"
        f"Input `{INPUT}`: (n, {height}, {width}, 3) uint8, RGB from 0 to 255, height by width. An image is "
        f"turned upright as its EXIF or XMP says, laid on white where it is transparent, and "
        f"{_RESIZE[described.resize]}{_kept(described.spec.parts[0])}, {_filtered(described.spec.parts[0])}: "
        f"`{PHOTO}` does all of this. Pixels are scaled inside.{_VIEWS[described.test_views]}\n\n"
        f"Output {output}.\n"
    )


def _answer(described: ModelDescription) -> str:
    """Return what a model's output is called."""
    return OUTPUT if described.target is None else VALUES


def _kept(spec: BackboneSpec) -> str:
    kept = spec.crop_fraction
    return "" if kept is None else f", of which the central {kept:.4g} of the sides is left"


def _filtered(spec: BackboneSpec) -> str:
    name = spec.interpolation or "bilinear"
    adverb = {"bilinear": "bilinearly", "bicubic": "bicubically"}[name]
    return f"{adverb} with antialiasing (Pillow's {name.upper()})"


def _use(described: ModelDescription) -> str:
    height, width = described.size_px
    opened = _OPEN if described.thresholds is None else _OPEN_SEVERAL
    imports, run = _RUN_CODE[described.runtime]
    if described.target is not None:
        opened, run = OPEN_NUMBER, run.replace(OUTPUT, VALUES)
    label = _LABEL
    if described.rejects_below:
        word = rejected_word(described.classes)
        label += f' if probabilities.max() >= {described.rejects_below!r} else "{word}"'
    seen = f'({height}, {width}), "{described.resize}"'
    spec = described.spec.parts[0]
    more = {name: value for name, value in spec.picture.items() if name not in ("size_px", "resize")}
    if spec.views is not None and spec.views.magnification != 1:
        more["magnification"] = spec.views.magnification
    seen += "".join(f", {name}={value!r}" for name, value in more.items())
    code = opened.format(imports=imports, seen=seen, run=run, label=label)
    text = (
        f"## Use\n\nIn this folder, where `{PHOTO}` reads a photo of any kind as featstore does (with NumPy "
        f"and Pillow, and with pillow-heif for HEIC):\n\n```python\n{code}```\n"
    )
    has_label = described.thresholds is None and described.target is None
    label_too = f" and `{LABEL}`, which is empty for unknown" if has_label else ""
    if described.runtime == "saved_model":
        text += (
            f"\nThe signature `{ENCODED_SIGNATURE}` takes encoded JPEG, PNG, GIF or BMP files as "
            f"`{ENCODED}`: "
            'over TensorFlow Serving\'s REST `{"instances": [{"b64": "…"}]}`. It answers with '
            f"`{_answer(described)}`{label_too}. It decodes in the graph, and does not "
            f"turn images as their EXIF says. `{IMAGES_SIGNATURE}` takes pixels, such as `{PHOTO}` gives.\n"
        )
    return text


def _verification(described: ModelDescription) -> str:
    result = described.verification
    if "skipped" in result:
        return f"## Verification\n\nNone: {result['skipped']}.\n"
    lost = f"; {result['n_lost']:,} more are gone or changed" if result["n_lost"] else ""
    lines = [
        "## Verification",
        "",
        f"The file was run on {result['n']:,} test photos{lost}, and compared with the head:",
        "",
        _difference(result),
    ]
    if encoded := result.get("encoded"):
        of = f"{encoded['n']:,} files" + (
            f", {encoded['n_undecoded']:,} more could not be decoded" if encoded["n_undecoded"] else ""
        )
        lines += ["", f"Through `{ENCODED_SIGNATURE}`, which decodes in the graph ({of}):", ""]
        lines += [_difference(encoded)] if encoded["n"] else []
    return "\n".join([*lines, ""])


def _difference(result: Mapping[str, Any]) -> str:
    if "mae_model" in result:
        return (
            f"- largest difference of a number {result['largest_difference']:.2g}, mean over the photos "
            f"{result['mean_difference']:.2g}\n"
            f"- mean absolute error {result['mae_model']:.4g}, of the head {result['mae_head']:.4g}"
        )
    if "label_agreement" in result:
        same = (
            f"- the same decision on {result['label_agreement']:.1%} of all labels\n"
            f"- mAP {result['map_model']:.1%}, of the head {result['map_head']:.1%}"
        )
    else:
        same = (
            f"- the same most probable class on {result['top1_agreement']:.1%}\n"
            f"- accuracy {result['top1_model']:.1%}, of the head {result['top1_head']:.1%}"
        )
    return (
        f"- largest difference of a probability {result['largest_difference']:.2g}, mean over the photos "
        f"{result['mean_difference']:.2g}\n"
        f"{same}"
    )


def _origin(described: ModelDescription) -> str:
    head = described.head
    fitted_on = " and ".join(head["choice"]["fitted_on"])
    made = f"fitted on {fitted_on} with seed {head['seed']}" if fitted_on else "the network's own classifier"
    if (n_views := head.get("train_views", 1)) > 1:
        made += f", {n_views} views of each image"
    params = ", ".join(f"{name}={value}" for name, value in head["params"].items())
    versions = ", ".join(f"{name} {version}" for name, version in described.versions.items())
    backbones = "".join(_backbone(part) for part in described.spec.parts)
    return (
        "## Origin\n\n"
        f"{backbones}"
        f"- head: {head['name']}{', ' + params if params else ''}, {made}, {head['created']}\n"
        f"- written with {versions}\n"
    )


def _backbone(spec: BackboneSpec) -> str:
    views = ""
    if spec.views is not None:
        views = f"- views of the images that it has features of: {spec.views}\n"
    return (
        f"- backbone: {spec.architecture} at layer {spec.layer}, pooling {spec.pooling}, "
        f"fingerprint {spec.fingerprint}\n"
        f"- weights: SHA-256 of their values {spec.weights_digest}\n"
        f"{views}"
    )


def _label_scores(scores: Mapping[str, Any]) -> str:
    if not scores["n"]:
        return "no images"
    names = {
        "map": "mAP",
        "micro_f1": "micro F1",
        "macro_f1": "macro F1",
        "subset_accuracy": "all labels right",
    }
    shown = [f"{name} {scores[key]:.1%}" for key, name in names.items() if scores[key] is not None]
    return f"{', '.join(shown)} (n = {scores['n']:,})"


def _accuracy(scores: Mapping[str, Any], n: int) -> str:
    if not n:
        return "no images"
    low, high = scores["top1_ci"]
    return f"accuracy {scores['top1']:.1%} (95% interval {low:.1%} to {high:.1%}, n = {n:,})"


def _cell(text: str) -> str:
    """Escape a text for a Markdown table."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>|#" else letter for letter in printable(text))
