"""How fluid the map of a report is: what Chromium takes for a frame while the map, or the pointer, is moved.

A report on points drawn at random, without photos, in a headless Chromium without a graphics card, 1,280 x
900 pixels. Processor time is that of the page's main thread (the DevTools protocol's thread ticks), so that
it counts no other program's work.
"""

import hashlib
import os
import sys
import tempfile

import numpy as np
import reporting

import featstore
from featstore.store import Catalog

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "tests"))

_FRAMES = """
const [kind, n, done] = arguments;
const box = canvas.getBoundingClientRect();
let frame = 0;
const send = (type, x, y) => {
  const where = { clientX: box.left + x, clientY: box.top + y };
  canvas.dispatchEvent(new PointerEvent(type, { pointerId: 1, bubbles: true, ...where }));
};
canvas.setPointerCapture = () => {};
if (kind === "pan") send("pointerdown", 300, 200);
function next() {
  if (frame === n) { if (kind === "pan") send("pointercancel", 300, 200); done(); return; }
  const at = frame++;
  send("pointermove", 300 + 150 * Math.sin(at / 9), 200 + 90 * Math.cos(at / 7));
  requestAnimationFrame(next);
}
requestAnimationFrame(next);
"""


def written(folder: str, n_images: int) -> str:
    """Write a report on images that there are not."""
    random = np.random.default_rng(0)
    of_class = np.arange(n_images) % 10
    X = (random.normal(size=(10, 64))[of_class] + random.normal(size=(n_images, 64))).astype(np.float32)
    hashes = [hashlib.sha256(b"%d" % row).digest() for row in range(n_images)]
    content_hash = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    spec = featstore.BackboneSpec(
        architecture="none", weights_digest="0" * 64, layer="top", size_px=(8, 8), preprocessing="unit"
    )
    store = featstore.FeatureStore(f"{folder}/points.fstore", create=True)
    store.create_space(spec, feature_dim=64).append(X, content_hash)
    unknown = np.full(n_images, -1)
    store.write_catalog(
        Catalog(
            name="points",
            root="/none",
            location="/none",
            paths=[f"{label}/{row}.jpg" for row, label in enumerate(of_class)],
            labels=[f"class {label}" for label in of_class],
            groups=[None] * n_images,
            splits=[None] * n_images,
            content_hash=content_hash,
            sizes=unknown,
            mtimes_ns=unknown,
            reasons=[None] * n_images,
        )
    )
    table = store.table()
    head = featstore.fit(table, head="centroid")
    made = featstore.report(head, table, f"{folder}/report.html", images=False, suspects=False)
    return made.path


def main() -> None:
    from browsers import LACKING, browser

    parser = reporting.arguments(__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    if LACKING:
        reporting.note(LACKING)
        return
    rows = []
    for n_images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            path = written(folder, n_images)
            with browser() as driver:
                driver.set_script_timeout(600)
                driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
                driver.get(f"file://{path}")
                driver.execute_script("canvas.scrollIntoView({block: 'center', behavior: 'instant'})")
                row = [n_images]
                for kind in ("pan", "hover"):
                    driver.execute_async_script(_FRAMES, kind, 10)
                    before = busy(driver)
                    driver.execute_async_script(_FRAMES, kind, options.frames)
                    row.append(1000 * (busy(driver) - before) / options.frames)
                rows.append(row)
                reporting.note(f"{n_images:,} points: {row[1]:.1f} and {row[2]:.1f} ms a frame")
    reporting.report(
        "The map of a report: processor ms a frame",
        ["points", "while it is moved", "while the pointer is"],
        rows,
        path=options.json,
        frames=options.frames,
    )


def busy(driver) -> float:
    """Return the seconds of processor time that the page's main thread has taken."""
    found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(one["value"] for one in found if one["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
