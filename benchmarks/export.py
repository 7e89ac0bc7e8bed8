"""A head on flowers in every format: size, how far its probabilities are from the head's, and its speed.

Needs photos and trained weights: on random weights it would say nothing.
"""

import os
import tempfile
import time

import numpy as np
import photos
import reporting

import featstore
from featstore.images.decode import decode_image
from featstore.images.reading import read_image

_MODELS = (
    ("keras", None),
    ("saved_model", None),
    ("openvino", None),
    ("onnx", None),
    ("tflite", None),
    ("tflite", "float16"),
    ("tflite", "int8"),
)
_BATCHES = (1, 32)
_SECONDS = 4.0


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--head", default="logistic")
    options = parser.parse_args()
    folder, weights = photos.find_trained(options)
    if folder is None or weights is None:
        reporting.note("left out: needs --photos and --weights")
        return
    with tempfile.TemporaryDirectory() as work:
        store = os.path.join(work, "flowers.fstore")
        featstore.extract(folder, store, backbone=options.backbone, weights=weights)
        table = featstore.FeatureStore(store).table()
        head = featstore.fit(table, head=options.head)
        test = table.split("test", head.split_rule)
        pixels = np.stack(
            [decode_image(read_image(path), size_px=head.spec.size_px) for path in test.paths[:32]]
        )
        rows = []
        for runtime, quantize in _MODELS:
            name = runtime if quantize is None else f"{runtime} {quantize}"
            reporting.note(f"exporting as {name}")
            model = featstore.export_head(
                head, os.path.join(work, name), format=runtime, quantize=quantize, table=table
            )
            verified = model.description.verification
            size = sum(os.path.getsize(os.path.join(model.path, file)) for file in model.description.files)
            rows.append(
                (
                    name,
                    size / 1e6,
                    f"{verified['largest_difference']:.1e}",
                    f"{verified['mean_difference']:.1e}",
                    f"{verified['top1_agreement']:.1%}",
                    f"{verified['top1_model']:.1%}",
                    *speeds(model, pixels),
                )
            )
            if encoded := verified.get("encoded"):
                rows.append(
                    (
                        f"{name}, encoded files",
                        None,
                        f"{encoded['largest_difference']:.1e}",
                        f"{encoded['mean_difference']:.1e}",
                        f"{encoded['top1_agreement']:.1%}",
                        f"{encoded['top1_model']:.1%}",
                        None,
                        None,
                        None,
                    )
                )
    reporting.report(
        f"Exported models, {options.backbone} and {options.head}",
        (
            "format",
            "MB",
            "largest difference",
            "mean difference",
            "same label",
            "accuracy",
            *(f"images/s, batch {n_images}" for n_images in _BATCHES),
            "processor ms",
        ),
        rows,
        path=options.json,
        test_photos=f"{len(test)}",
        accuracy_of_the_head=f"{head.test['top1']:.1%}",
        speed=f"medians over {_SECONDS:g} s of decoded images; processor time per image of the larger batch",
    )


def speeds(model: featstore.ExportedModel, pixels: np.ndarray) -> list[float]:
    """Give the rate for each size of batch, as one who waits for each sees it, and the processor time."""
    rates, processor_ms = [], 0.0
    for n_images in _BATCHES:
        batch, taken, used = pixels[:n_images], [], []
        list(model.run([batch]))
        end = time.perf_counter() + _SECONDS
        while time.perf_counter() < end:
            start, start_used = time.perf_counter(), time.process_time()
            list(model.run([batch]))
            taken.append(time.perf_counter() - start)
            used.append(time.process_time() - start_used)
        rates.append(n_images / reporting.median(taken))
        processor_ms = 1000 * reporting.median(used) / n_images
    return [*rates, processor_ms]


if __name__ == "__main__":
    main()
