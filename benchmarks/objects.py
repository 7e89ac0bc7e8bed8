"""What images on an object store cost beside the same images as files, and a second run over unchanged ones.

The photos come from moto's S3 server on the loopback, a separate process, whose time does not count.
Processor time is that of a whole `featstore extract`; what each further image takes is the slope between two
numbers of images. The 100,000 objects of the second run are listed and answered by a small server here, in
pages of 1,000 as S3 writes them; they hold one pixel each, and the backbone costs nothing.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import photos
import reporting
from rerun import _Flat

import featstore

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from object_server import Server, moto_python, moto_server  # noqa: E402 (lies with the tests)

_BUCKET = "photos"
_PAGE = 1000


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def upload(folder: str, prefix: str) -> None:
    from obstore.store import S3Store

    store = S3Store(_BUCKET, client_options={"allow_http": True})
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        store.put(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def measure_extraction(options, work: str) -> None:
    given, weights = photos.find_trained(options)
    network = ["--backbone", options.backbone, *(["--weights", weights] if weights else [])]
    counts = (options.count // 10, options.count)
    (ROOT / "build").mkdir(exist_ok=True)
    with moto_server(moto_python(ROOT / "build")) as port:
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
        }
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{_BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()
        ways: dict[str, list[str]] = {"files": [], "objects": []}
        for count in counts:
            folder = photos.choose(given, os.path.join(work, f"photos{count}"), count)
            upload(folder, f"photos{count}")
            ways["files"].append(folder)
            ways["objects"].append(f"s3://{_BUCKET}/photos{count}")
        extract = [sys.executable, "-m", "featstore_cli", "extract", *network, "--quiet", "--store"]
        processor_seconds([*extract, os.path.join(work, "warm.fstore"), ways["files"][0]])
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for number in range(options.rounds):
            reporting.note(f"round {number + 1}")
            for name, sources in ways.items():
                seconds, wall = [], 0.0
                for at, source in enumerate(sources):
                    started = time.perf_counter()
                    store = os.path.join(work, f"{name}-{number}-{at}.fstore")
                    seconds.append(processor_seconds([*extract, store, source]))
                    wall = time.perf_counter() - started
                each = 1000 * (seconds[1] - seconds[0]) / (counts[1] - counts[0])
                taken[name].append((each, seconds[1], wall))
    rows = []
    for name, rounds in taken.items():
        each, whole, wall = (reporting.median(values) for values in zip(*rounds, strict=True))
        over = [
            reporting.median([mine[at] / file[at] for mine, file in zip(rounds, taken["files"], strict=True)])
            for at in (0, 1)
        ]
        rows.append((name, each, over[0], whole, over[1], wall))
    reporting.report(
        "Objects against files",
        ("from", "processor ms an image", "over files", "processor s, whole run", "over files", "seconds"),
        rows,
        path=options.json,
        images=f"{counts[0]} and {counts[1]}",
        rounds=options.rounds,
    )


def listing(n_objects: int, path: str) -> bytes:
    """Return a page of a listing as S3 writes it."""
    start = int(path.partition("continuation-token=")[2].partition("&")[0] or 0)
    stop = min(n_objects, start + _PAGE)
    objects = "".join(
        f"<Contents><Key>set/class{number % 100:02}/{number:07}.ppm</Key>"
        f"<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"{number:032x}"</ETag><Size>{len(picture(number))}</Size></Contents>'
        for number in range(start, stop)
    )
    more = f"<NextContinuationToken>{stop}</NextContinuationToken>" if stop < n_objects else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>photos</Name>'
        f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{objects}</ListBucketResult>"
    ).encode()


def picture(number: int) -> bytes:
    return b"P6 1 1 255 " + number.to_bytes(3, "big")


def measure_latency(options, work: str) -> None:
    given, weights = photos.find_trained(options)
    folder = photos.choose(given, os.path.join(work, "far"), options.count)
    names = [path.relative_to(folder).as_posix() for path in sorted(Path(folder).rglob("*.*"))]
    contents = {name: Path(folder, name).read_bytes() for name in names}
    entries = "".join(
        f"<Contents><Key>set/{name}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"{at}"</ETag><Size>{len(contents[name])}</Size></Contents>'
        for at, name in enumerate(names)
    )
    whole = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
    latency = 0.0

    def answer(handler) -> None:
        time.sleep(latency)
        if "list-type=2" in handler.path:
            handler.reply(200, whole)
            return
        name = unquote(handler.path).partition("/set/")[2]
        headers = {"ETag": f'"{names.index(name)}"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        handler.reply(200, contents[name], headers)

    server = Server(answer).start()
    os.environ |= {"AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    extract = [sys.executable, "-m", "featstore_cli", "extract", "--backbone", options.backbone, "--quiet"]
    extract += ["--weights", weights] if weights else []
    processor_seconds([*extract, "--store", os.path.join(work, "warm-far.fstore"), folder])
    taken: dict[str, list[float]] = {}
    for number in range(options.rounds):
        for milliseconds in (None, 0, 20, 100):
            latency = (milliseconds or 0) / 1000
            name = "files" if milliseconds is None else f"objects, {milliseconds} ms away"
            source = folder if milliseconds is None else f"s3://{_BUCKET}/set"
            store = os.path.join(work, f"far-{number}-{milliseconds}.fstore")
            started = time.perf_counter()
            processor_seconds([*extract, "--store", store, source])
            taken.setdefault(name, []).append(time.perf_counter() - started)
    server.close()
    rows = [
        (
            name,
            reporting.median(seconds),
            reporting.median([s / f for s, f in zip(seconds, taken["files"], strict=True)]),
        )
        for name, seconds in taken.items()
    ]
    reporting.report(
        "How far away objects may be",
        ("from", "seconds, whole run", "over files"),
        rows,
        path=options.json and options.json.replace(".json", "-latency.json"),
        images=options.count,
        rounds=options.rounds,
    )


def measure_rerun(options, work: str) -> None:
    def answer(handler) -> None:
        if "list-type=2" in handler.path:
            handler.reply(200, listing(options.objects, handler.path))
        else:
            number = int(handler.path.rpartition("/")[2].partition(".")[0])
            headers = {"ETag": f'"{number:032x}"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
            handler.reply(200, picture(number), headers)

    server = Server(answer).start()
    os.environ |= {"AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark"}
    rows = []
    for name in ("first run, all new", "second run, nothing changed"):
        server.requests.clear()
        started = time.perf_counter()
        report = featstore.extract("s3://photos/set", os.path.join(work, "set.fstore"), backbone=_Flat())
        seconds = time.perf_counter() - started
        n_listing = sum("list-type=2" in path for _, path in server.requests)
        assert report.failed == 0
        rows.append((name, seconds, n_listing, len(server.requests) - n_listing, report.read))
    server.close()
    reporting.report(
        "Unchanged objects",
        ("run", "seconds", "requests of the listing", "other requests", "objects read"),
        rows,
        path=options.json and options.json.replace(".json", "-rerun.json"),
        objects=f"{options.objects:,}",
    )


def main() -> None:
    parser = reporting.arguments(__doc__)
    photos.add_options(parser)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100_000, help="of the second run")
    parser.add_argument("--only", choices=("extraction", "latency", "rerun"), help="a part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for name, measure in {
            "extraction": measure_extraction,
            "latency": measure_latency,
            "rerun": measure_rerun,
        }.items():
            if options.only in (None, name):
                measure(options, work)


if __name__ == "__main__":
    main()
