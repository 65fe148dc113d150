"""The page of a surface in a real browser: no error, it plays, what is drawn is what was measured."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from thalweg.functions.catalogue import surface
from thalweg.functions.paths import compare, thinned
from thalweg.functions.view import view
from thalweg.functions.walks import method
from thalweg.report.surface import write_surface

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.skipif(not BROWSER, reason="no chromium on PATH"), pytest.mark.slow]

NAMES = ("sgd", "adam")
# Where the lines of a picture end, and the step that the dotted line of distances stands at.
ENDS = """(selector) => document.querySelector(selector).data
  .filter(t => t.mode === "lines" && t.customdata)
  .map(t => [...["x", "y", "z"].filter(k => t[k]).map(k => t[k][t[k].length - 1]), t.x.length])"""
STEP = """() => document.querySelector('[data-figure="way"]').layout.shapes[0].x0"""
MAP, MOUNTAIN = '[data-figure="map"]', "#mountain-plot"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # Three dimensions are computed by the processor: a test machine has no graphics card.
        launched = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--no-first-run", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def found():
    return compare(surface("rosenbrock"), [method(name) for name in NAMES], 1500)


@pytest.fixture(scope="module")
def path(found, tmp_path_factory):
    return write_surface(found, view(found), None, (), tmp_path_factory.mktemp("surface") / "surface.html")


class Visit:
    """A page that is open, and what went wrong on it or was asked for."""

    def __init__(self, browser, path, width, **options):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        self.page, self.wrong = self.context.new_page(), []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda note: note.type == "error" and self.wrong.append(note.text))
        self.page.on("request", lambda asked: asked.url == path.as_uri() or self.wrong.append(asked.url))
        self.page.goto(path.as_uri())


@pytest.fixture(scope="module")
def desktop(browser, path):
    visit = Visit(browser, path, 1280)
    yield visit
    visit.context.close()


@pytest.fixture(scope="module")
def phone(browser, path):
    visit = Visit(browser, path, 390, color_scheme="dark", reduced_motion="reduce")
    yield visit
    visit.context.close()


@pytest.fixture(params=["desktop", "phone"])
def page(request):
    """The page as it is when it has just been opened, and without an error when the test has ended."""
    visit = request.getfixturevalue(request.param)
    for box in visit.page.locator("input[data-show]").all():
        box.check()
    visit.page.locator("#step").press("End")
    yield visit.page
    assert visit.wrong == []


def plane(page):
    return [end[:2] for end in page.evaluate(ENDS, MAP)]


def test_ends_are_drawn_as_measured_and_the_page_is_no_wider_than_the_screen(page, found):
    last = [one.points[-1].tolist() for one in found.paths]

    assert plane(page) == last
    assert [end[:2] for end in page.evaluate(ENDS, MOUNTAIN)] == last
    assert [end[-1] for end in page.evaluate(ENDS, MAP)] == [len(thinned(1501))] * 2
    assert page.evaluate(STEP) == 1500
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert all(page.locator(".conclusions li").all_inner_texts())


def test_the_slider_works_by_keyboard(page, found):
    slider, step = page.locator("#step"), int(thinned(1501)[3])

    slider.press("Home")
    assert page.locator("#shown").inner_text() == "0 of 1500"
    assert plane(page) == [list(found.start)] * 2
    for _ in range(3):
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == f"step {step} of 1500"
    assert plane(page) == [one.points[step].tolist() for one in found.paths]
    assert page.evaluate(STEP) == step


def test_it_plays_when_asked_and_pauses(page):
    play, slider = page.locator("#play"), page.locator("#step")
    last = slider.get_attribute("max")

    assert play.inner_text() == "Play"  # nothing moves before
    assert slider.input_value() == last
    play.press("Enter")
    expect(play).to_have_text("Pause")
    expect(page.locator("#shown")).not_to_have_text("0 of 1500")
    play.press("Enter")
    expect(play).to_have_text("Play")
    held = slider.input_value()
    assert 0 < int(held) < int(last)
    assert slider.input_value() == held


def test_it_plays_to_the_end(phone, found):
    slider, play = phone.page.locator("#step"), phone.page.locator("#play")
    slider.press("End")
    slider.press("PageDown")

    play.press("Enter")

    expect(phone.page.locator("#shown")).to_have_text("1500 of 1500", timeout=30_000)
    expect(play).to_have_text("Play")
    assert plane(phone.page) == [one.points[-1].tolist() for one in found.paths]
    assert phone.wrong == []


def test_an_optimizer_is_hidden_in_all_pictures(page):
    page.locator('input[data-show="sgd"]').first.uncheck()

    for picture in (MAP, MOUNTAIN, '[data-figure="way"]'):
        shown = page.evaluate(
            "(s) => document.querySelector(s).data.filter(t => t.legendgroup === 'sgd').map(t => t.visible)",
            picture,
        )
        assert set(shown) == {False}


def test_without_webgl_the_page_says_so(browser, path):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
    )
    page.goto(path.as_uri())

    assert "it has no WebGL" in page.locator("#mountain-plot").inner_text()
    page.locator("#step").focus()
    page.keyboard.press("Home")
    assert page.locator("#shown").inner_text() == "0 of 1500"
    context.close()
