"""The pictures of pages in the docs: `make screenshots`, or `python tests/screenshots.py FOLDER`, which `featstore demo` made."""

import base64
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from PIL import Image

from browsers import browser, click, complaints
from pages import ROOT

_IMAGES = ROOT / "docs" / "images"


def shoot(driver: Any, name: str, selector: str, height: int, width: int = 1180) -> None:
    """Save what the window would show from an element on."""
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().top + window.scrollY"
    clip = {
        "x": 0,
        "y": driver.execute_script(script, selector),
        "width": width,
        "height": height,
        "scale": 1,
    }
    taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    picture.save(_IMAGES / f"{name}.webp", quality=72, method=6)
    assert os.path.getsize(_IMAGES / f"{name}.webp") < 150_000


def of_report(folder: str) -> None:
    """Take pictures of the report on the demo's digits."""
    import featstore

    store = featstore.FeatureStore(f"{folder}/digits.fstore")
    head = featstore.Head.load(store.head_path("logistic"))
    made = featstore.report(head, store.table(catalog="digits"), f"{folder}/report.html", overwrite=True)
    with browser(width=1180, height=1000) as driver:
        driver.get(f"file://{os.path.abspath(made.path)}")
        shoot(driver, "report", "body", 760)
        click(
            driver, max(driver.find_elements("css selector", ".cell:not(.right)"), key=lambda cell: cell.text)
        )
        driver.execute_script("document.activeElement.blur()")
        # It would lie over what is below the window.
        driver.execute_script("document.querySelector('header').style.position = 'static'")
        shoot(driver, "report-confusion", "#confusion", 800)
        canvas = driver.find_element("id", "map-canvas")
        driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
        driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        driver.execute_script("point(nearest(across(shown[200]), down(shown[200])))")
        shoot(driver, "report-map", "#map", 880)
        assert complaints(driver) == []


@contextlib.contextmanager
def running(folder: str, line: str) -> Iterator[str]:
    """Run a command that serves a page; yields its address."""
    command = [
        sys.executable,
        "-m",
        "featstore_cli",
        *line.split(),
        "--store",
        "digits.fstore",
        "--port",
        "0",
    ]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[-1]
        process.terminate()


def wait_for(driver: Any, condition: str) -> None:
    """Wait for a condition in the page."""
    driver.execute_async_script(
        f"const done = arguments[0]; setInterval(() => {{ if ({condition}) done(); }}, 50)"
    )


def of_page(folder: str) -> None:
    """Take a picture of the page to try the demo's head."""
    with running(folder, "serve logistic") as address, browser(width=1000, height=900) as driver:
        driver.get(address)
        driver.find_element("id", "files").send_keys(os.path.abspath(f"{folder}/digits/7/0027.png"))
        wait_for(driver, "document.querySelector('.near')")
        shoot(driver, "serve", "body", 790, width=1000)
        assert complaints(driver) == []


def of_review(folder: str) -> None:
    """Take pictures of a review of the demo's labels: on a desk, and on a phone in the dark."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{folder}/corrections.csv")
    ready = "typeof seen !== 'undefined' && here() && seen === here().hash && !isBusy"
    with running(folder, "review logistic --who you") as address:
        with browser(width=1180, height=900) as driver:
            driver.get(address)
            wait_for(driver, ready)
            driver.execute_script("actions.s()")
            wait_for(driver, f"queue.decided.length === 1 && {ready}")
            shoot(driver, "review", "body", 800)
            assert complaints(driver) == []
        with browser(dark=True) as driver:
            phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
            driver.get(address)
            wait_for(driver, ready)
            driver.execute_script("document.querySelector('.steps').style.position = 'static'")
            shoot(driver, "review-phone", "body", 1000, width=390)
            assert complaints(driver) == []


if __name__ == "__main__":
    of_report(sys.argv[1])
    of_page(sys.argv[1])
    of_review(sys.argv[1])
