"""Reading from containers: images in archives and shards against the same images as files, by processor time.

Reading is listing the source, and reading, hashing and decoding each image, as the extraction does before the
forward pass; all but decoding is also measured alone. Ways take turns with the files, so that a ratio is that
of two runs next to each other.
"""

import os
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable

import photos
import pyarrow as pa
import pyarrow.parquet as pq
import reporting

from featstore.hashing import content_hash
from featstore.images import open_source
from featstore.images.decode import decode_image
from featstore.images.reading import read_image
from featstore.images.sources.containers import parquet, tar, tfrecord
from featstore.images.sources.containers import zip as zips
from featstore.io.archives.tfrecord import encode_example, write_record


def write_tar(paths: list[str], folder: str, target: str) -> None:
    with tarfile.open(target, "w") as archive:
        for path in paths:
            archive.add(os.path.join(folder, path), path)


def write_webdataset(paths: list[str], folder: str, target: str) -> None:
    """Write the images in shards of 500, each beside its class."""
    os.makedirs(target)
    for shard in range(-(-len(paths) // 500)):
        work = os.path.join(target, "label")
        with tarfile.open(os.path.join(target, f"{shard:03d}.tar"), "w") as archive:
            for number, path in enumerate(paths[500 * shard : 500 * shard + 500]):
                with open(work, "w") as file:
                    file.write(path.partition("/")[0])
                archive.add(os.path.join(folder, path), f"{number:06d}.jpg")
                archive.add(work, f"{number:06d}.cls")
        os.unlink(work)


def write_zip(method: int) -> Callable[[list[str], str, str], None]:
    def write(paths: list[str], folder: str, target: str) -> None:
        with zipfile.ZipFile(target, "w", method) as archive:
            for path in paths:
                archive.write(os.path.join(folder, path), path)

    return write


def write_tfrecord(paths: list[str], folder: str, target: str) -> None:
    with open(target, "wb") as file:
        for path in paths:
            data = read_image(os.path.join(folder, path))
            label = path.partition("/")[0].encode()
            features = {
                "image/encoded": [data],
                "image/class/text": [label],
                "image/filename": [path.encode()],
            }
            write_record(file, encode_example(features))


def write_parquet(paths: list[str], folder: str, target: str) -> None:
    """Write the images as Hugging Face's datasets does, in row groups of 100."""
    images = [{"bytes": read_image(os.path.join(folder, path)), "path": path} for path in paths]
    labels = [path.partition("/")[0] for path in paths]
    pq.write_table(pa.table({"image": images, "label": labels}), target, row_group_size=100)


WAYS = (
    ("WebDataset, shards of 500", "shards", write_webdataset),
    ("tar, class folders", "photos.tar", write_tar),
    ("zip, stored", "stored.zip", write_zip(zipfile.ZIP_STORED)),
    ("zip, deflated", "deflated.zip", write_zip(zipfile.ZIP_DEFLATED)),
    ("TFRecord", "photos.tfrecord", write_tfrecord),
    ("Parquet", "photos.parquet", write_parquet),
)
LISTINGS = (tar.list_tar, zips.list_zip, tfrecord.list_tfrecord, parquet.list_parquet)


def processor_ms(source: str, *, decodes: bool) -> float:
    """Return the processor time of a first run's reading, in ms an image."""
    for listing in LISTINGS:
        listing.cache_clear()
    shutil.rmtree(os.environ["FEATSTORE_CACHE"], ignore_errors=True)
    started = time.process_time()
    opened = open_source(source)
    for record in opened.records:
        data = read_image(os.path.join(opened.root, record.path))
        content_hash(data)
        if decodes:
            decode_image(data, size_px=(224, 224))
    return (time.process_time() - started) * 1000 / len(opened.records)


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument(
        "--photos", metavar="FOLDER", help="class folders; default: those beside the checkout"
    )
    parser.add_argument("--ways", nargs="*", help="those whose names have one of these words; default: all")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    ways = [way for way in WAYS if any(word in way[0] for word in options.ways or [""])]
    rows = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["FEATSTORE_CACHE"] = os.path.join(work, "cache")
        folder, kind = photos.find(options.photos, work, 1000)
        files = [record.path for record in open_source(folder).records]
        for _, target, write in ways:
            write(files, folder, os.path.join(work, target))
        for decodes in (True, False):
            for name, target, _ in ways:
                reporting.note(f"{name}, {'with' if decodes else 'without'} decoding")
                pairs = [
                    (
                        processor_ms(folder, decodes=decodes),
                        processor_ms(os.path.join(work, target), decodes=decodes),
                    )
                    for _ in range(options.rounds)
                ]
                as_files, contained = (reporting.median(one) for one in zip(*pairs, strict=True))
                ratio = reporting.median([there / here for here, there in pairs])
                what = "listed, read, hashed, decoded" if decodes else "listed, read, hashed"
                rows.append((name, what, as_files, contained, ratio))
    reporting.report(
        "Reading from containers",
        ("container", "what is done", "files: processor ms", "container: processor ms", "over files"),
        rows,
        path=options.json,
        photos=f"{len(files):,} {kind}",
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()
