"""The page to try a model, in a real browser."""

import pytest
from selenium.webdriver.support.ui import Select, WebDriverWait

from browsers import click, complaints


@pytest.fixture
def page(chromium, server):
    chromium.get(f"{server}/")
    yield chromium
    assert complaints(chromium) == []


def until(page, text):
    WebDriverWait(page, 60, poll_frequency=0.05).until(
        lambda page: text in page.find_element("id", "said").text
    )


def texts(page, selector):
    return [one.text for one in page.find_elements("css selector", selector)]


def test_a_chosen_photo_gets_its_label_with_bars_and_training_photos(page, photos, predictor):
    photo = str(photos / "<img src=x onerror=alert(4)>.png")
    page.find_element("id", "files").send_keys(photo)
    until(page, "1 done")
    expected = predictor.predict(photo, top=3)
    assert texts(page, ".answer") == [expected.label]
    assert texts(page, ".bars li span:first-child") == [label for label, _ in expected.top]
    assert texts(page, ".bars li span:last-child") == [f"{100 * p:.1f}%" for _, p in expected.top]
    assert len(page.find_elements("css selector", ".near img")) == 6
    sizes = "return [...document.querySelectorAll('main img')].map((one) => one.naturalWidth)"
    assert all(page.execute_script(sizes))
    assert "as the network saw it: 8 \u00d7 8 pixels, stretch" in texts(page, "figcaption")
    assert all(one.get_attribute("alt") for one in page.find_elements("css selector", "main img"))


def drop(page, kind, name, text):
    page.execute_script(
        """const [kind, name, text] = arguments;
        const given = new DataTransfer();
        given.items.add(new File([text], name));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true })
          : new ClipboardEvent("paste", { clipboardData: given, bubbles: true });
        document.body.dispatchEvent(event);""",
        kind,
        name,
        text,
    )


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_file_that_is_no_photo_is_reported(page, kind):
    drop(page, kind, "<i>notes</i>.txt", "hello")
    until(page, "1 done")
    assert texts(page, ".result .bad") == [
        "not an image: text that begins 'hello'; JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, HEIC, JPEG 2000, TGA, DDS and PPM files are read"
    ]
    assert texts(page, "figcaption") == ["<i>notes</i>.txt"]
    # The browser itself notes that the request was refused, a moment later on a busy machine.
    (refused,) = WebDriverWait(page, 60, poll_frequency=0.05).until(complaints)
    assert "422" in refused


def test_another_model_is_asked_where_it_is_chosen(page, photos):
    Select(page.find_element("id", "model")).select_by_visible_text("<b>")
    page.find_element("id", "files").send_keys(str(photos / "copy.png"))
    until(page, "1 done")
    assert not page.find_elements("css selector", ".near")


def test_an_answer_is_shown_as_of_the_model_that_was_asked(page, photos):
    page.execute_script(
        """data.models[1].size_px = [99, 99];
        const fetched = window.fetch;
        const held = new Promise((go) => { window.letGo = go; });
        window.fetch = (...given) => fetched(...given).then((answer) => held.then(() => answer));"""
    )
    page.find_element("id", "files").send_keys(str(photos / "copy.png"))
    until(page, "Looking at 1 photo")
    Select(page.find_element("id", "model")).select_by_visible_text("<b>")
    page.execute_script("window.letGo()")
    until(page, "1 done")
    assert "as the network saw it: 8 \u00d7 8 pixels, stretch" in texts(page, "figcaption")


def test_the_camera_takes_a_photo_once_it_has_one(page):
    page.execute_script(
        """const play = HTMLMediaElement.prototype.play;
        window.started = new Promise((start) => { window.start = start; });
        HTMLMediaElement.prototype.play = function () { return window.started.then(() => play.call(this)); };"""
    )
    click(page, page.find_element("id", "camera"))
    shoot = page.find_element("id", "shoot")
    wait = WebDriverWait(page, 60, poll_frequency=0.05)
    wait.until(lambda page: shoot.is_displayed())
    assert not shoot.is_enabled()
    page.execute_script("window.start()")
    wait.until(lambda page: shoot.is_enabled())
    click(page, shoot)
    until(page, "1 done")
    assert texts(page, "figcaption")[0] == "camera.jpg"
    click(page, page.find_element("id", "camera-off"))
    assert not page.find_element("id", "video").is_displayed()


def test_it_fits_a_phone(page, photos):
    media = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    try:
        page.find_element("id", "files").send_keys(str(photos / "copy.png"))
        until(page, "1 done")
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
