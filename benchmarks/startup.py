"""How long the commands take from Enter to prompt, against starting Python alone."""

import os
import subprocess
import sys
import tempfile
import time

import photos
import reporting

import featstore
from featstore.images import open_source


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def main() -> None:
    parser = reporting.arguments(__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        cache = os.path.join(work, "cache")
        environment = {**os.environ, "FEATSTORE_CACHE": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
        os.environ["FEATSTORE_CACHE"] = os.path.join(work, "own-cache")
        folder, store = os.path.join(work, "photos"), os.path.join(work, "photos.fstore")
        photos.generate(folder, 60, side_px=(240, 320), classes=2)
        weights = photos.seeded_weights(options.backbone, work)
        featstore.extract(folder, store, backbone=options.backbone, weights=weights)
        opened = featstore.FeatureStore(store)
        head = os.path.join(work, "two.head")
        featstore.fit(opened.table(), params={"C": 0.01}).save(head)
        photo = os.path.join(folder, open_source(folder).records[0].path)
        commands = {
            "python -c pass": ["-c", "pass"],
            "featstore --help": ["-m", "featstore_cli", "--help"],
            "featstore info": ["-m", "featstore_cli", "info", store],
            "featstore fit, 60 photos": [
                "-m",
                "featstore_cli",
                "fit",
                store,
                "-o",
                os.path.join(work, "a.head"),
            ],
            "featstore predict, cold": ["-m", "featstore_cli", "predict", head, photo],
            "featstore predict, warm": ["-m", "featstore_cli", "predict", head, photo],
        }
        rows = []
        bare = None
        for name, arguments in commands.items():
            rounds = 1 if name.endswith("cold") else options.rounds
            taken = reporting.median([seconds(arguments, environment) for _ in range(rounds)])
            bare = bare or taken
            rows.append((name, taken, taken / bare))
    reporting.report(
        f"Start-up, {options.backbone}",
        ("command", "seconds", "over Python alone"),
        rows,
        path=options.json,
        rounds=f"{options.rounds}, the cold one once",
    )


if __name__ == "__main__":
    main()
