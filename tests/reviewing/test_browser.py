"""The page of a review in a real browser, by keyboard and by mouse."""

import os

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import featstore
from browsers import click, complaints
from page_material import LABELS


@pytest.fixture
def page(chromium, server):
    chromium.get(f"{server}/")
    until(chromium, lambda: ready(chromium))
    yield chromium
    assert complaints(chromium) == []


def until(page, condition):
    return WebDriverWait(page, 60, poll_frequency=0.02).until(lambda _: condition())


def ready(page):
    """Whether the photo is there, and with it the decisions."""
    return page.execute_script("return Boolean(here()) && seen === here().hash && !isBusy")


def text(page, name):
    return page.find_element("id", name).text


def press(page, key):
    page.find_element("tag name", "body").send_keys(key)


def decided(page, key):
    """Press a key that decides, and return the image's hash once it is written."""
    content = page.execute_script("return here().hash")
    n = page.execute_script("return queue.decided.length")
    press(page, key)
    until(page, lambda: page.execute_script("return queue.decided.length") == n + 1)
    until(page, lambda: page.execute_script("return !here() || (seen === here().hash && !isBusy)"))
    return content


def written(session):
    return [(one.content_hash, one.decision, one.new) for one in featstore.read_corrections(session.path)]


def test_a_review_by_keyboard_alone(page, session, table):
    first = page.execute_script("return here()")
    assert text(page, "title") == f"Labelled {first['labels'][0]}"
    assert page.execute_script("return document.querySelector('#picture img').naturalWidth") > 0
    taken = decided(page, "s")
    told = [(taken, "relabel", first["suggested"])]
    second = page.execute_script("return here()")
    told.append((decided(page, "a"), "accept", second["labels"][0]))
    told.append((decided(page, "x"), "exclude", ""))
    label = page.execute_script("return queue.classes.find((label) => label !== here().labels[0])")
    told.append((decided(page, str(sorted(LABELS).index(label) + 1)), "relabel", label))
    assert written(session) == told
    assert text(page, "progress").startswith("4 of ")
    press(page, "u")
    until(page, lambda: text(page, "said").startswith("Undone: "))
    until(page, lambda: ready(page))
    assert written(session) == told[:3]
    assert page.execute_script("return here().hash") == told[3][0]
    press(page, Keys.ARROW_LEFT)
    assert text(page, "decision") == "Decided: Left out"
    until(page, lambda: ready(page))
    decided_again = page.execute_script("return here().labels[0]")
    press(page, "a")
    until(page, lambda: len(written(session)) == 4)
    assert written(session)[3] == (told[2][0], "accept", decided_again)


def test_a_review_by_mouse_goes_on_after_a_reload(page, session):
    content = page.execute_script("return here().hash")
    click(page, page.find_element("id", "exclude"))
    until(page, lambda: text(page, "said").startswith("Left out: "))
    page.refresh()
    until(page, lambda: ready(page))
    assert text(page, "progress").startswith("1 of ")
    assert page.execute_script("return here().hash") != content
    click(page, page.find_element("xpath", "//nav[@id='kinds']/button[starts-with(., 'Decided (1)')]"))
    assert page.execute_script("return here().hash") == content
    click(page, page.find_element("id", "undo"))
    until(page, lambda: text(page, "said").startswith("Undone: "))
    assert written(session) == []


def test_a_class_that_is_a_digit_has_its_own_key(page):
    keys = "return [...keysOfClasses(arguments[0])].map(([label, key]) => label + '=' + key).sort()"
    assert page.execute_script(keys, [str(digit) for digit in range(10)]) == [f"{n}={n}" for n in range(10)]
    assert page.execute_script(keys, ["1", "a", "b"]) == ["1=1", "a=2", "b=3"]


def test_a_new_label_is_asked_about_once(page, session):
    press(page, "/")
    field = page.switch_to.active_element
    assert field.get_attribute("id") == "label"
    # Letters in the field decide nothing.
    field.send_keys("xas <b>new</b>", Keys.ENTER)
    assert "No image is called xas <b>new</b> so far" in text(page, "said")
    assert text(page, "relabel") == "Add this label"
    content = page.execute_script("return here().hash")
    field.send_keys(Keys.ENTER)
    until(page, lambda: text(page, "said").startswith("It is xas <b>new</b>"))
    assert written(session) == [(content, "relabel", "xas <b>new</b>")]
    assert page.execute_script("return queue.classes.includes('xas <b>new</b>')")


def test_the_other_image_of_an_outlier_is_beside_it(page):
    click(page, page.find_element("xpath", "//nav[@id='kinds']/button[starts-with(., 'Unlike all')]"))
    until(page, lambda: ready(page))
    until(page, lambda: page.find_elements("css selector", "#other-picture img"))
    assert "similarity" in text(page, "other-says")
    assert "Unlike all training images" in text(page, "reasons")
    assert page.find_element("id", "duplicate").is_enabled()


def test_nothing_is_decided_on_a_photo_that_is_not_there_yet(page, session):
    page.execute_script(
        """window.held = new Promise((go) => { window.letGo = go; });
        const fetched = window.fetch;
        window.fetch = (path, options) => (String(path).startsWith("photos/") ? window.held : Promise.resolve()).then(() => fetched(path, options));
        for (const hash of [...photos.keys()]) photos.delete(hash);
        go(place + 1);"""
    )
    for key in ("a", "s", "x", "d", "1"):
        press(page, key)
    for name in ("accept", "suggest", "exclude", "relabel"):
        assert not page.find_element("id", name).is_enabled()
    assert not os.path.exists(session.path)
    page.execute_script("window.letGo()")
    until(page, lambda: ready(page))
    decided(page, "x")
    assert len(written(session)) == 1


def test_a_decision_that_could_not_be_written_is_told_of_and_stays_here(page, session, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    content = page.execute_script("return here().hash")
    press(page, "x")
    until(page, lambda: "no space left on device" in text(page, "said"))
    until(page, lambda: ready(page))
    assert page.execute_script("return [here().hash, queue.decided.length]") == [content, 0]
    assert until(page, lambda: complaints(page))[0].count("500") >= 1


def test_it_can_be_read_without_eyes_and_on_a_phone_in_the_dark(page):
    for button in page.find_elements("css selector", "button:not([hidden])"):
        if button.is_displayed():
            assert button.accessible_name
    assert page.find_element("id", "label").accessible_name
    assert page.execute_script("return document.querySelector('#picture img').alt")
    light = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    media = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        wide = "return [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > 391).map((one) => one.id || one.outerHTML)"
        assert page.execute_script(wide) == []
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
