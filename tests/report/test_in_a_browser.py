"""The page in headless Chromium, driven by selenium; skipped if one of them or chromedriver is not installed."""

import json
import shutil
import time

import pytest

from fastgan.report import save_report

webdriver = pytest.importorskip("selenium.webdriver")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None or shutil.which("chromedriver") is None:
    pytest.skip("chromium and chromedriver are needed: apt install chromium chromium-driver", allow_module_level=True)

By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def pages(attending, points, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    save_report(attending, folder / "one.html")
    save_report([points, attending], folder / "two.html")
    return folder


@pytest.fixture
def page(browser, pages):
    browser.get(f"file://{pages}/one.html")
    return browser


def one(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def soon(holds):
    """The value once it is true; what the page does it does within seconds."""
    end = time.monotonic() + 20
    while not (value := holds()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)
    return value


def test_the_keyboard_and_a_click_move_the_time_slider(page):
    slider, image, step = (one(page, s) for s in ("#samples-slider", "img.sample", "#samples-step"))
    newest = image.get_attribute("src")
    assert step.text == "step 4" and newest.startswith("data:image/webp")
    slider.send_keys(Keys.ARROW_LEFT)
    soon(lambda: step.text == "step 2")
    assert slider.get_attribute("aria-valuetext") == "step 2"
    assert image.get_attribute("src") not in ("", newest) and image.get_attribute("alt").endswith("at step 2")
    line = "return document.querySelector('#charts .plot').layout.shapes.map(s => s.x0)"
    soon(lambda: page.execute_script(line) == [2])
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    width = slider.size["width"]
    webdriver.ActionChains(page).move_to_element_with_offset(slider, width // 2 - 4, 0).click().perform()
    soon(lambda: step.text == "step 4")
    assert image.get_attribute("src") == newest


def test_the_attention_map_follows_the_pointer_and_the_arrow_keys(page):
    canvas = page.find_elements(By.CSS_SELECTOR, ".attention canvas")[1]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    pixels = "return arguments[0].toDataURL()"
    before = page.execute_script(pixels, canvas)
    side = canvas.size["width"]
    move = webdriver.ActionChains(page)
    move.move_to_element_with_offset(canvas, round(side * (2.5 / 16 - 0.5)), round(side * (9.5 / 16 - 0.5))).perform()
    soon(lambda: canvas.get_attribute("data-point") == "9,2")
    there = page.execute_script(pixels, canvas)
    canvas.send_keys(Keys.ARROW_RIGHT)
    soon(lambda: canvas.get_attribute("data-point") == "9,3")
    assert len({before, there, page.execute_script(pixels, canvas)}) == 3
    assert one(page, ".attention .hint").text.startswith("Image 2, row 10 of 16, column 4 of 16")


def test_zoom_holds_for_all_charts(page):
    charts = "[...document.querySelectorAll('#charts .plot')]"
    page.execute_script(f"Plotly.relayout({charts}[0], {{'xaxis.range[0]': 1.5, 'xaxis.range[1]': 3}})")
    ranges = f"return {charts}.map(chart => chart.layout.xaxis.range.map(Number).join())"
    soon(lambda: set(page.execute_script(ranges)) == {"1.5,3"})


def test_the_walk_plays_until_it_is_stopped(page):
    slider, button = one(page, "#walk-slider"), one(page, "#walk-play")
    soon(lambda: int(slider.get_attribute("value")) > 1)
    page.execute_script("arguments[0].click()", button)
    at = slider.get_attribute("value")
    time.sleep(0.3)
    assert slider.get_attribute("value") == at and button.get_attribute("aria-pressed") == "false"


def test_dark_and_light_by_the_system_and_by_the_button(page):
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        colours.append(page.execute_script(ground))
    assert colours[0] != colours[1]
    font = "return document.querySelector('#charts .plot').layout.font.color"
    soon(lambda: page.execute_script(font) == "#9ea4b0")
    page.execute_script("arguments[0].click()", one(page, "#theme"))
    assert page.execute_script(ground) == colours[0]
    soon(lambda: page.execute_script(font) == "#5d626d")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("name", ["one", "two"])
def test_it_fits_a_telephone_has_no_error_and_sends_nothing(browser, pages, name):
    browser.get_log("browser"), browser.get_log("performance")
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(f"file://{pages}/{name}.html")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    nameless = "return [...document.querySelectorAll('img')].filter(i => !i.alt || !i.src.startsWith('data:')).length"
    assert browser.execute_script(nameless) == 0
    assert len(browser.find_elements(By.CSS_SELECTOR, "#charts .plot svg.main-svg")) > 5
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"]
    assert urls and all(url.startswith(("file:", "data:")) for url in urls)


def test_two_runs_begin_with_what_differs_and_share_the_slider(browser, pages):
    browser.get(f"file://{pages}/two.html")
    assert one(browser, "main section").get_attribute("id") == "differences"
    images = browser.find_elements(By.CSS_SELECTOR, "img.sample")
    before = [image.get_attribute("src") for image in images]
    one(browser, "#samples-slider").send_keys(Keys.ARROW_LEFT)
    assert len(images) == 2
    for image, newest in zip(images, before, strict=True):
        soon(lambda image=image, newest=newest: image.get_attribute("src") != newest)
