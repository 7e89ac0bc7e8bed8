"""How fluid the map of a report is: what Chromium takes for a frame while the map, or the pointer, is moved.

A report on points drawn at random, without photos, in a headless Chromium without a graphics card, 1,280 x
900 pixels. Processor time is that of the page's main thread (the DevTools protocol's thread ticks), so that
it counts no other program's work.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from pathlib import Path

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
  if (kind === "zoom") zoom(Math.exp(0.03 * Math.cos(at / 19)));
  else send("pointermove", 300 + 150 * Math.sin(at / 9), 200 + 90 * Math.cos(at / 7));
  requestAnimationFrame(next);
}
requestAnimationFrame(next);
"""


_MOTIONS = (
    ("moved", "pan", 1),
    ("moved, zoomed in 4 times", "pan", 4),
    ("zoomed in and out", "zoom", 1),
    ("under the pointer", "hover", 1),
)


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
                for name, kind, scale in _MOTIONS:
                    driver.execute_script("fit(); zoom(arguments[0])", scale)
                    driver.execute_async_script(_FRAMES, kind, 10)
                    before = busy(driver), busy_processes(driver)
                    driver.execute_async_script(_FRAMES, kind, options.frames)
                    after = busy(driver), busy_processes(driver)
                    main, whole = (
                        1000 * (one - other) / options.frames
                        for one, other in zip(after, before, strict=True)
                    )
                    rows.append((f"{n_images:,}", name, main, whole))
                    reporting.note(f"{n_images:,} points, {name}: {main:.1f} ms a frame, {whole:.1f} in all")
    reporting.report(
        "The map of a report: processor ms a frame",
        ["points", "motion", "the page's main thread", "the whole browser"],
        rows,
        path=options.json,
        frames=options.frames,
    )


def busy(driver) -> float:
    """Return the seconds of processor time that the page's main thread has taken."""
    found = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(one["value"] for one in found if one["name"] == "TaskDuration")


def busy_processes(driver) -> float:
    """Return the seconds of processor time that the browser's processes have taken."""
    parents, ticks = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(name)], ticks[int(name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    own = {driver.service.process.pid}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks.get(pid, 0) for pid in own) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
