"""The report in a real browser: opened from the disk, by mouse and by keyboard."""

import pytest

import featstore
from browsers import click, complaints


@pytest.fixture
def page(chromium, made):
    chromium.get(f"file://{made.path}")
    yield chromium
    assert complaints(chromium) == []


def texts(page, selector):
    return [one.text for one in page.find_elements("css selector", selector)]


def pressed(page, key, selector=None):
    target = page.find_element("css selector", selector) if selector else page.switch_to.active_element
    target.send_keys(key)


def test_a_number_of_the_confusion_matrix_opens_its_photos_and_closes_them(page, head, table):
    expected = featstore.evaluate(head, table)
    names = [one["label"] for one in expected.classes]
    for cell in page.find_elements("css selector", "button.cell"):
        said = cell.get_attribute("aria-label")
        click(page, cell)
        tiles = page.find_elements("css selector", "#confusion-photos .photo img")
        assert len(tiles) == min(48, int(cell.text))
        assert all(page.execute_script("return arguments[0].naturalWidth", tile) > 0 for tile in tiles)
        label, predicted = said.rpartition(":")[0].split(" predicted as ")
        assert expected.confusion[names.index(label)][names.index(predicted)] == int(cell.text)
        assert all(f"label {label}, predicted {predicted}" in tile.get_attribute("alt") for tile in tiles)
        assert cell.get_attribute("aria-expanded") == "true"
    click(page, cell)
    assert texts(page, "#confusion-photos *") == []
    assert not page.find_elements("css selector", '[aria-expanded="true"]')


def test_a_photo_opens_with_what_is_known_of_it_and_leads_to_the_next(page):
    first = page.find_element("css selector", "[data-list=mistakes] .photo")
    click(page, first)
    assert page.execute_script("return document.getElementById('photo').open")
    assert texts(page, "#photo dt")[:3] == ["Label", "Prediction", "Split"]
    title = page.find_element("id", "photo-title").text
    assert title.startswith("<img src=x onerror=alert(")
    pressed(page, "\ue014")  # Arrow right.
    assert page.find_element("id", "photo-title").text != title
    assert page.find_element("id", "photo-place").text.startswith("2 of ")
    pressed(page, "\ue012")
    assert page.find_element("id", "photo-title").text == title
    pressed(page, "\ue00c")  # Escape.
    assert not page.execute_script("return document.getElementById('photo').open")
    assert page.switch_to.active_element == first


def test_the_table_of_classes_sorts_by_a_heading_and_by_keyboard(page, head, table):
    expected = {one["label"]: one for one in featstore.evaluate(head, table).classes}
    for name, key in (("n", "n"), ("recall", "recall"), ("F1", "f1")):
        heading = f"//table[@id='class-table']//th[button[text()='{name}']]"
        button = page.find_element("xpath", f"{heading}/button")
        click(page, button)
        for order, sign in (("descending", -1), ("ascending", 1)):
            assert page.find_element("xpath", heading).get_attribute("aria-sort") == order
            values = [sign * expected[label][key] for label in texts(page, "#class-table tbody th")]
            assert values == sorted(values)
            pressed(page, "\ue007")  # Enter.
    assert len(page.find_elements("css selector", "#class-table .strip .photo")) == 27


def test_the_map_shows_the_photo_under_the_pointer_and_those_in_the_lasso(page):
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = page.find_element("id", "map-canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    x, y, inside = page.execute_async_script(
        """const done = arguments[0];
        requestAnimationFrame(() => requestAnimationFrame(() => {
          const at = shown[0];
          const box = canvas.getBoundingClientRect();
          const near = shown.filter((one) => Math.abs(across(one) - across(at)) < 60 && Math.abs(down(one) - down(at)) < 40);
          done([across(at) - box.width / 2, down(at) - box.height / 2, near.length]);
        }));"""
    )
    x, y = round(x), round(y)
    ActionChains(page).move_to_element_with_offset(canvas, x, y).perform()
    tip = page.find_element("id", "map-tip")
    assert tip.is_displayed()
    assert tip.find_element("css selector", "img").size["width"] > 50
    page.find_element("id", "map-lasso").click()
    corners = ActionChains(page).move_to_element_with_offset(canvas, x - 60, y - 40).click_and_hold()
    corners.move_by_offset(120, 0).move_by_offset(0, 80).move_by_offset(-120, 0).release().perform()
    (title,) = texts(page, "#map-photos h3")
    found = int(title.removeprefix("In the lasso: ").split()[0])
    assert abs(found - inside) <= 2
    assert len(page.find_elements("css selector", "#map-photos .photo")) == min(found, 48)


def test_a_map_that_was_moved_is_the_one_that_would_be_painted(page):
    script = """
    const done = arguments[0];
    const frames = (n, then) => (n ? requestAnimationFrame(() => frames(n - 1, then)) : then());
    let n = 0;
    const real = paintSheet;
    paintSheet = (ratio) => { n++; real(ratio); };
    fit();
    frames(3, () => {
      const found = { start: canvas.toDataURL() };
      n = 0;
      [view.x, view.y] = [view.x + 70, view.y - 40];
      later();
      frames(3, () => {
        Object.assign(found, { moved: canvas.toDataURL(), paintings: n });
        arrange();
        frames(3, () => done({ ...found, fresh: canvas.toDataURL(), after: n }));
      });
    });"""
    found = page.execute_async_script(script)
    assert found["moved"] == found["fresh"] != found["start"]
    assert (found["paintings"], found["after"]) == (0, 1)


def test_a_map_that_is_zoomed_is_painted_when_it_rests(page):
    script = """
    const done = arguments[0];
    const frames = (n, then) => (n ? requestAnimationFrame(() => frames(n - 1, then)) : then());
    let n = 0;
    const real = paintSheet;
    paintSheet = (ratio) => { n++; real(ratio); };
    zoom(1.5);
    frames(2, () => {
      const [stretched, during] = [canvas.toDataURL(), n];
      const wait = () => {
        if (!painted || painted.scale !== view.scale) { requestAnimationFrame(wait); return; }
        const [rested, after] = [canvas.toDataURL(), n];
        arrange();
        frames(3, () => done({ during, after, stretched, rested, fresh: canvas.toDataURL() }));
      };
      wait();
    });"""
    found = page.execute_async_script(script)
    assert (found["during"], found["after"]) == (0, 1)
    assert found["rested"] == found["fresh"] != found["stretched"]


def test_no_point_is_lacking_where_a_map_is_moved_far(page):
    script = """
    const done = arguments[0];
    const frames = (n, then) => (n ? requestAnimationFrame(() => frames(n - 1, then)) : then());
    zoom(4);
    setTimeout(() => {
      view.x += view.width * 0.9;
      later();
      frames(3, () => {
        const moved = canvas.toDataURL();
        arrange();
        frames(3, () => done([moved, canvas.toDataURL()]));
      });
    }, 2 * REST_MS);"""
    moved, fresh = page.execute_async_script(script)
    assert moved == fresh


def test_the_map_goes_by_keyboard_and_hides_what_its_legend_says(page, table):
    pressed(page, "\ue014", "#map-canvas")
    said = page.find_element("id", "map-said").get_attribute("textContent")
    assert ".png: label" in said
    pressed(page, "\ue012")
    assert page.find_element("id", "map-said").get_attribute("textContent") != said
    button = page.find_element("css selector", "#map-legend button")
    click(page, button)
    assert button.get_attribute("aria-pressed") == "false"
    click(page, page.find_element("id", "map-list"))
    hidden = int((table.y == button.text.rpartition(" (")[0]).sum())
    assert texts(page, "#map-photos h3")[0].startswith(f"On the map: {len(table) - hidden} images")


def test_everything_has_a_name_for_those_who_do_not_see_it(page):
    for selector in ("#mistakes", "#classes", "#confusion", "#map"):
        for button in page.find_elements("css selector", f"{selector} button:not([hidden])"):
            assert button.accessible_name
    assert all(one.get_attribute("alt") for one in page.find_elements("css selector", "main img"))
    for table in page.find_elements("css selector", "table"):
        assert table.find_elements("css selector", "thead th[scope=col]")
        assert table.find_elements("css selector", "tbody th[scope=row]")
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_no_names_run_and_nothing_is_fetched(page):
    assert page.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)"
                               ".filter((name) => !name.startsWith('data:'))") == []  # fmt: skip
    assert page.execute_script("return document.querySelectorAll('script').length") == 2


def test_it_fits_a_phone_and_follows_the_dark(page):
    media = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    light = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
