"""Extraction against the machine's own limit and against what a user would write instead.

Every way reads the same files from the page cache and is warmed up first, so that neither the building of the
network nor the disk is measured. The ways take turns, and each ratio is the median of the rounds' ratios.
The processor time of an image, all threads together, says where the time goes: what a way takes beyond
decoding and forward pass is its own.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np
import photos
import reporting

import featstore
from featstore.backbones.keras.quiet import quiet_import

with quiet_import():
    import keras
    import tensorflow as tf
from featstore.backbones import find_backbone
from featstore.images.decode import decode_image
from featstore.images.reading import default_workers, map_ahead, read_image


def one_at_a_time(
    paths: list[str], network: keras.Model, scale: Callable[[tf.Tensor], tf.Tensor], work: str
) -> int:
    """As `retrain.py` did: an image, a compiled forward pass, a text file."""
    side = network.input_shape[1]

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def bottleneck(data: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_jpeg(data, channels=3)
        image = tf.image.resize(tf.cast(image, tf.float32)[tf.newaxis], (side, side))
        return network(scale(image), training=False)[0]

    def run(some: list[str]) -> int:
        for number, path in enumerate(some):
            with open(path, "rb") as file:
                values = bottleneck(file.read()).numpy()
            with open(os.path.join(work, f"{number}.txt"), "w", encoding="ascii") as file:
                file.write(",".join(str(value) for value in values))
        return len(some)

    run(paths[:3])
    return run


def keras_way(folder: str, network: keras.Model, scale: Callable[[tf.Tensor], tf.Tensor], work: str):
    """As Keras' guides do: a data set from the folder, `predict`, one HDF5 file."""
    side = network.input_shape[1]

    def run() -> int:
        data = keras.utils.image_dataset_from_directory(
            folder, image_size=(side, side), batch_size=32, shuffle=False, verbose=False
        )
        batches = data.map(lambda image, _: scale(image), num_parallel_calls=tf.data.AUTOTUNE)
        features = network.predict(batches.prefetch(tf.data.AUTOTUNE), verbose=0)
        with h5py.File(os.path.join(work, "features.h5"), "w") as file:
            file["features"] = features
        return len(features)

    network.predict(scale(tf.zeros((32, side, side, 3))), verbose=0)
    return run


def with_featstore(folder: str, backbone: featstore.Backbone, work: str) -> Callable[[], int]:
    def run() -> int:
        store = os.path.join(work, "bench.fstore")
        shutil.rmtree(store, ignore_errors=True)
        return featstore.extract(folder, store, backbone=backbone).extracted

    backbone.forward(np.zeros((backbone.batch_size, *backbone.spec.size_px, 3), np.uint8))
    return run


def decoding_alone(paths: list[str], size_px: tuple[int, int]) -> Callable[[], int]:
    def run() -> int:
        workers = default_workers()
        loaded = map_ahead(
            lambda path: decode_image(read_image(path), size_px=size_px), paths, workers=workers, ahead=64
        )
        return sum(1 for _ in loaded)

    return run


def forward_alone(backbone: featstore.Backbone, batches: int) -> Callable[[], int]:
    batch = np.random.default_rng(0).integers(
        0, 256, (backbone.batch_size, *backbone.spec.size_px, 3), np.uint8
    )

    def run() -> int:
        return sum(len(rows) for rows in backbone.run(batch for _ in range(batches)))

    backbone.forward(batch)
    return run


def measured(way: Callable[[], int]) -> tuple[float, float]:
    """Return images a second, and milliseconds of processor time an image."""
    started, processor = time.perf_counter(), time.process_time()
    count = way()
    return count / (time.perf_counter() - started), 1e3 * (time.process_time() - processor) / count


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument(
        "--photos",
        metavar="FOLDER",
        help="class folders; default: real ones beside the checkout, or generated",
    )
    parser.add_argument("--count", type=int, default=1000, help="number of photos")
    parser.add_argument("--megapixels", type=float, help="enlarge the photos to this many")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measure(options, work)


def measure(options, work: str) -> None:
    found, words = photos.find(options.photos, work, options.count)
    folder = photos.choose(found, os.path.join(work, "photos"), options.count, megapixels=options.megapixels)
    paths = [os.path.join(folder, record.path) for record in featstore.images.open_source(folder).records]
    weights = photos.seeded_weights(options.backbone, work)
    info = find_backbone(options.backbone)
    module = getattr(keras.applications, info.module)
    network = getattr(keras.applications, info.keras_name)(
        include_top=False, weights=weights, pooling="avg", input_shape=(*info.size_px, 3)
    )
    few = paths[:: max(len(paths) // 200, 1)]
    single = one_at_a_time(few, network, module.preprocess_input, work)
    ways: dict[str, Callable[[], int]] = {
        "one image at a time, a text file each": lambda: single(few),
        "image_dataset_from_directory + predict + HDF5": keras_way(
            folder, network, module.preprocess_input, work
        ),
    }
    limits: dict[str, Callable[[], int]] = {"decoding alone": decoding_alone(paths, info.size_px)}
    combinations = [("keras", "float32"), ("openvino", "float32"), ("openvino", "bfloat16")]
    for engine, precision in combinations:
        try:
            backbone = featstore.load_backbone(
                options.backbone, weights=weights, engine=engine, precision=precision
            )
            limits[f"forward alone, {engine} {precision}"] = forward_alone(
                backbone, max(len(paths) // backbone.batch_size, 4)
            )
        except featstore.FeatstoreError as error:
            reporting.note(f"left out: {engine} {precision}: {error}")
            continue
        ways[f"featstore, {engine} {precision}"] = with_featstore(folder, backbone, work)
    rounds: list[dict[str, float]] = []
    processor: dict[str, list[float]] = {name: [] for name in [*limits, *ways]}
    for number in range(options.rounds):
        reporting.note(f"round {number + 1} of {options.rounds}")
        rates = {}
        for name, way in {**limits, **ways}.items():
            rates[name], milliseconds = measured(way)
            processor[name].append(milliseconds)
        rounds.append(rates)
    single_name, keras_name, *_ = ways
    rows = []
    for name in [*limits, *ways]:
        over_limit = None
        if name.startswith("featstore, "):
            forward = "forward alone, " + name.removeprefix("featstore, ")
            over_limit = reporting.median(
                [r[name] * (1 / r["decoding alone"] + 1 / r[forward]) for r in rounds]
            )
        rows.append(
            (
                name,
                reporting.median([r[name] for r in rounds]),
                reporting.median(processor[name]),
                over_limit,
                reporting.median([r[name] / r[keras_name] for r in rounds]),
                reporting.median([r[name] / r[single_name] for r in rounds]),
            )
        )
    size = f"{options.megapixels:g} megapixels each" if options.megapixels else "as they are"
    reporting.report(
        f"Extraction, {options.backbone}",
        ("way", "images/s", "processor ms", "over the limit", "over Keras' way", "over one at a time"),
        rows,
        path=options.json,
        images=f"{len(paths)} {words}, {size}",
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()
