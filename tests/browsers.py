"""A real browser without a window, where the system has one: Chromium, driven by its own driver."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
LACKING = (
    None if CHROMIUM and DRIVER else "there is no Chromium with its driver: apt-get install chromium-driver"
)


@contextmanager
def browser(*, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """Start Chromium, and end it."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    # A camera that shows a test picture, and may be used.
    for argument in ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def click(driver: Any, thing: Any) -> None:
    """Click an element, in the middle of the window, where nothing lies over it."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", thing)
    thing.click()


def complaints(driver: Any) -> list[str]:
    """Return what the browser has complained about since the last call."""
    return [entry["message"] for entry in driver.get_log("browser")]
