"""Peak memory of an extraction at a small and at a large number of images, each in its own process."""

import os
import subprocess
import sys
import tempfile

import photos
import reporting

import featstore

_CHILD = "--child"


def child(folder: str, store: str, weights: str, backbone: str) -> None:
    report = featstore.extract(folder, store, backbone=backbone, weights=weights)
    assert report.failed == 0
    print(report.extracted, peak_kib(), report.seconds)


def peak_kib() -> int:
    """Return the most that this process held; getrusage would count what its parent held at the fork."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def main() -> None:
    if sys.argv[1:2] == [_CHILD]:
        child(*sys.argv[2:])
        return
    parser = reporting.arguments(__doc__)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 50_000])
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        weights = photos.seeded_weights(options.backbone, work)
        # Once before, so that both find the converted network where later runs do.
        photos.generate(os.path.join(work, "warm"), 10, side_px=(240, 320))
        featstore.extract(
            os.path.join(work, "warm"),
            os.path.join(work, "warm.fstore"),
            backbone=options.backbone,
            weights=weights,
        )
        for count in options.counts:
            folder = os.path.join(work, f"photos{count}")
            reporting.note(f"generating {count:,} images")
            photos.generate(folder, count, side_px=(120, 160))
            done = subprocess.run(
                [sys.executable, __file__, _CHILD, folder, folder + ".fstore", weights, options.backbone],
                check=True,
                capture_output=True,
                text=True,
            )
            extracted, peak, taken = done.stdout.split()
            assert int(extracted) == count
            rows.append((count, int(peak) / 1024, float(taken)))
    reporting.report(
        f"Peak memory, {options.backbone}",
        ("images", "peak MiB", "over the first", "seconds"),
        [(f"{count:,}", peak, peak / rows[0][1], taken) for count, peak, taken in rows],
        path=options.json,
    )


if __name__ == "__main__":
    main()
