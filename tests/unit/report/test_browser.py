"""The page in a real browser: no script error, every control works, what is drawn is what was stored."""

import math
import shutil

import pytest
from playwright.sync_api import sync_playwright

import made_up
from thalweg.records import Answer
from thalweg.report import write, write_findings
from thalweg.report.curves import training_loss, validation_score
from thalweg.report.finder import short_race
from thalweg.report.overview import together
from thalweg.report.rates import score_by_rate

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium on PATH")

WIDTHS = {"desktop": 1280, "phone": 390}
RACE = made_up.race(diverged={"sgd": 2}, found={"sgd": Answer.FLAT}, target=0.95, key="race")
SCHEDULES = made_up.follow_up(RACE, key="schedules")
OTHER = made_up.race(seed=1, task="digits", target=0.96, wave=16)
RACES = [RACE, SCHEDULES, OTHER]

# What Plotly holds of one figure.
DRAWN = """(name) => {
  const plot = document.querySelector(`[data-figure="${name}"]`);
  return {
    lines: plot.data.map(t => ({
      name: t.name, group: t.legendgroup, x: t.x, y: t.y, mode: t.mode, axis: t.yaxis || "y",
      width: t.line && t.line.width, symbol: t.marker && t.marker.symbol,
    })),
    title: plot.layout.xaxis.title.text,
    shapes: (plot.layout.shapes || []).map(s => ({name: s.name, x0: s.x0, x1: s.x1, y0: s.y0})),
    paths: plot.querySelectorAll(".scatterlayer .trace").length,
  };
}"""
# Which curves of a figure are on the screen: what all lines of each optimizer say, once.
SHOWN = """(name) => {
  const shown = {};
  for (const t of document.querySelector(`[data-figure="${name}"]`).data) {
    (shown[t.legendgroup] ??= new Set()).add(t.visible !== false);
  }
  return Object.fromEntries(Object.entries(shown).map(([group, said]) => [group, [...said]]));
}"""
CHECKED = """(name) => [...document.querySelectorAll("#race-2 input[data-show]")]
  .filter(box => box.dataset.show === name).map(box => box.checked)"""
ALL = {name: [True] for name in made_up.KNOWN}
RESET = "document.querySelectorAll('input').forEach(i => { if (i.defaultChecked && !i.checked) i.click(); })"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        quiet = ["background-networking", "component-update", "gpu", "quic", "sync"]
        launched = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)],
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(RACES, tmp_path_factory.mktemp("page") / "report.html")


class Visitor:
    """Opens pages, without a network, and keeps what went wrong or was asked for."""

    def __init__(self, browser):
        self.browser, self.contexts, self.wrong = browser, [], []

    def open(self, path, width=WIDTHS["desktop"], **options):
        context = self.browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("request", lambda request: request.url == path.as_uri() or self.wrong.append(request.url))
        page.goto(path.as_uri())
        return page

    def close(self):
        for context in self.contexts:
            context.close()


@pytest.fixture
def visitor(browser):
    visitor = Visitor(browser)
    yield visitor
    visitor.close()
    assert visitor.wrong == []


@pytest.fixture(scope="module", params=WIDTHS.values(), ids=WIDTHS.keys())
def opened(request, browser, path):
    visitor = Visitor(browser)
    yield visitor, visitor.open(path, request.param)
    visitor.close()


@pytest.fixture
def page(opened):
    """The page as it is when it has just been opened, and without an error when the test has ended."""
    visitor, page = opened
    page.evaluate(RESET)
    yield page
    assert visitor.wrong == []


def median_lines(drawn):
    return [line for line in drawn["lines"] if line["width"]]


def test_curves_are_drawn_as_stored_along_each_axis(page):
    for name, race in (("race-1", RACE), ("race-1-1", SCHEDULES), ("race-2", OTHER)):
        figures = {
            f"{name}-along-1": [c for c in training_loss(race) if c.median],
            f"{name}-along-2": [c for c in validation_score(race) if c.median],
        }
        for kind in ("steps", "seconds", "epochs"):
            page.locator(f'input[name="{name}-axis"][value="{kind}"]').check()
            for figure, curves in figures.items():
                drawn = page.evaluate(DRAWN, figure)
                assert drawn["title"] == kind.capitalize()
                assert drawn["paths"] == 3 * len(curves)
                for curve, line in zip(curves, median_lines(drawn), strict=True):
                    assert line["name"] == curve.optimizer
                    assert line["x"] == list(getattr(curve, kind))
                    assert line["y"] == list(curve.median)
                    low, high = (
                        t for t in drawn["lines"] if t["group"] == curve.optimizer and not t["width"]
                    )
                    assert low["x"] == high["x"] == line["x"]
                    assert (low["y"], high["y"]) == (list(curve.low), list(curve.high))


def test_an_axis_is_chosen_for_one_race_alone(page):
    page.locator('input[name="race-2-axis"][value="steps"]').check()

    assert page.evaluate(DRAWN, "race-2-along-1")["title"] == "Steps"
    assert page.evaluate(DRAWN, "race-1-along-1")["title"] == "Epochs"
    assert page.evaluate(DRAWN, "race-1-1-along-1")["title"] == "Epochs"


def test_an_axis_is_chosen_by_keyboard(page):
    page.locator('input[name="race-1-axis"][value="epochs"]').focus()
    page.keyboard.press("ArrowRight")
    drawn = page.evaluate(DRAWN, "race-1-along-1")

    assert drawn["title"] == "Steps"
    assert median_lines(drawn)[-1]["x"] == list(training_loss(RACE)[-1].steps)
    outline = page.locator(":focus-visible").evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid"


def test_the_target_is_drawn_in_the_scores_alone(page):
    assert page.evaluate(DRAWN, "race-1-along-1")["shapes"] == []
    assert [s["y0"] for s in page.evaluate(DRAWN, "race-1-along-2")["shapes"]] == [0.95]


def test_rates_basins_and_best_of_k_are_drawn_as_stored(page):
    curves = {c.optimizer: c for c in score_by_rate(RACE)}
    drawn, best = page.evaluate(DRAWN, "race-1-rates"), page.evaluate(DRAWN, "race-1-best")

    assert [line["group"] for line in best["lines"]] == list(curves)
    for name, curve in curves.items():
        own = [line for line in drawn["lines"] if line["group"] == name]
        means = [(p.rate, p.mean) for p in curve.points if p.mean is not None]
        [line] = [t for t in own if t["mode"] == "lines+markers" and t["axis"] == "y"]
        assert list(zip(line["x"], line["y"], strict=True)) == means
        [bar] = [t for t in own if t["mode"] == "lines+markers" and t["axis"] == "y2"]
        assert bar["x"] == [curve.basin.low, curve.basin.high]
        [crosses] = [t for t in own if t["symbol"] == "x-thin"]
        assert crosses["x"] == [p.rate for p in curve.points if p.diverged]
        [expected] = [t for t in best["lines"] if t["group"] == name]
        assert expected["y"] == [x for x in curve.expected if x is not None]
        assert expected["x"] == [k for k, x in enumerate(curve.expected, start=1) if x is not None]


def test_findings_are_drawn_as_stored(page):
    for i, finding in enumerate(RACE.findings, start=1):
        drawn = page.evaluate(DRAWN, f"race-1-finder-{i}")
        lines = {line["name"]: line for line in drawn["lines"] if line["name"]}
        known = [(r, x) for r, x in zip(finding.rates, finding.losses, strict=True) if x is not None]
        assert list(zip(*(lines["loss of the sweeps"][axis] for axis in "xy"), strict=True)) == known
        shapes = {s["name"]: s for s in drawn["shapes"]}
        if finding.outcome is Answer.FOUND:
            assert (shapes["not told apart"]["x0"], shapes["not told apart"]["x1"]) == (
                finding.low,
                finding.high,
            )
            assert shapes["suggested"]["x0"] == finding.suggestion
            assert shapes["diverges"]["x0"] == finding.diverges_at
            short = [(rate, loss) for rate, loss in short_race(finding) if loss is not None]
            assert list(zip(*(lines["short race"][axis] for axis in "xy"), strict=True)) == short
        else:
            assert shapes == {}


def test_the_profile_is_drawn_as_stored(page):
    found = together([RACE, OTHER]).profile

    for line in page.evaluate(DRAWN, "profile")["lines"]:
        assert line["y"] == [found.share(line["group"], factor) for factor in line["x"]]


def test_every_legend_hides_and_shows_its_curves_in_all_pictures_of_the_race(page):
    boxes = page.locator("#race-2 input[data-show]")

    assert boxes.count() == 4 * 4
    for i in range(boxes.count()):
        name = boxes.nth(i).get_attribute("data-show")
        for on in (False, True):
            boxes.nth(i).click()
            assert page.evaluate(CHECKED, name) == [on] * 4
            for figure in ("along-1", "along-2", "rates", "best"):
                shown = page.evaluate(SHOWN, f"race-2-{figure}")
                assert shown == {**ALL, name: [on]}
    assert page.evaluate(SHOWN, "race-1-along-1") == ALL


def test_a_hidden_curve_stays_hidden_along_another_axis(page):
    page.locator('#race-1 input[data-show="adam"]').first.uncheck()
    page.locator('input[name="race-1-axis"][value="steps"]').check()

    assert page.evaluate(SHOWN, "race-1-along-1") == {**ALL, "adam": [False]}


def test_every_table_behind_a_picture_opens(page):
    details = page.locator("details")

    assert details.count() == page.locator("figure").count() == 1 + (4 + 4) + 2 + 4
    for i in range(details.count()):
        assert not details.nth(i).locator("table").is_visible()
        details.nth(i).locator("summary").click()
        assert details.nth(i).locator("table").is_visible()


def test_every_copy_button_copies_the_text_beside_it_and_says_so(visitor, path):
    page = visitor.open(path, permissions=["clipboard-read", "clipboard-write"])
    buttons = page.locator("button.copy")

    assert buttons.count() == 2 + 1 + 1 + 2 + 1  # recipe and code of two races, three commands
    for i in range(buttons.count()):
        name = buttons.nth(i).get_attribute("data-copy")
        assert buttons.nth(i).inner_text() == "Copy"
        buttons.nth(i).click()
        page.wait_for_function("i => document.querySelectorAll('.copy')[i].textContent === 'Copied'", arg=i)
        assert page.evaluate("navigator.clipboard.readText()") == page.locator(f"#{name}").text_content()
    assert page.get_by_role("status").nth(buttons.count() - 1).inner_text() == "Copied"


def test_where_copying_is_refused_the_text_is_selected(visitor, path):
    page = visitor.open(path)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("document.execCommand = () => false")
    button = page.locator("button.copy").first
    button.click()
    page.wait_for_function("document.querySelector('.copy').textContent === 'Press Ctrl+C'")

    selected = page.evaluate("String(window.getSelection())")
    assert selected.split() == page.locator(f"#{button.get_attribute('data-copy')}").inner_text().split()


def test_nothing_scrolls_sideways_but_tables(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(
        """() => [...document.querySelectorAll('.scroll')]
            .every(box => (box.scrollWidth > box.clientWidth) === (box.tabIndex === 0))"""
    )


def test_links_of_the_overview_lead_to_the_races(page):
    for link in page.locator("nav a").all():
        link.click()
        place = page.locator(link.get_attribute("href")).bounding_box()
        assert -1 <= place["y"] < 900


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_on_the_page(visitor, path, scheme):
    page = visitor.open(path, color_scheme=scheme)
    colours = page.evaluate(
        """() => ['body', '.facts', 'figcaption', 'a', 'summary', 'pre', '.copy', '.plot .xtick text']
            .map(s => getComputedStyle(document.querySelector(s)))
            .map(s => [s.color, s.fill, s.backgroundColor])"""
    )
    ground = luminance(colours[0][2])

    assert (ground < 0.1) == (scheme == "dark")
    for (text, fill, own), is_svg in zip(colours, [False] * 7 + [True], strict=True):
        behind = luminance(own) if own.startswith("rgb(") else ground
        light, dark = sorted((luminance(fill if is_svg else text), behind), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # Web Content Accessibility Guidelines 2.2, 1.4.3


def luminance(colour):
    parts = [int(x) / 255 for x in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return math.fsum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_in_print_figures_fit_the_paper_and_controls_are_gone(visitor, path):
    page = visitor.open(path, color_scheme="dark")
    paper = page.pdf(format="A4")  # with the events of printing
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    widths = page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(e => e.clientWidth)")

    assert paper.startswith(b"%PDF-")
    assert set(widths) == {320, 660}
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for gone in (".copy", ".axis", "label input", "details", ".mouse"):
        assert not any(e.is_visible() for e in page.locator(gone).all())
    assert page.locator(".keys label").first.is_visible()  # the legend itself stays
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelector('.plot').layout.width") is None


def test_the_page_of_a_finder_has_no_error_either(visitor, tmp_path):
    page = visitor.open(write_findings(RACE.findings, tmp_path / "finder.html", "Rates on digits"), 390)

    assert page.locator(".plot .main-svg").count() >= len(RACE.findings)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_a_person_wrote_does_not_run(visitor, tmp_path):
    hostile = "</script><script>document.title = 'broken out'</script><img src=x onerror=alert(1)>"
    race = made_up.race(task=hostile, optimizers=[hostile, "adam"], command=hostile, found={}, final_seeds=6)
    page = visitor.open(write(race, tmp_path / "report.html"))

    assert page.title() == f"{hostile} and adam on {hostile} · Thalweg"
    assert page.locator("img, main script:not([type])").count() == 0
    page.locator("[data-show]").first.uncheck()
    assert page.evaluate(SHOWN, "race-1-along-1") == {hostile: [False], "adam": [True]}


def test_a_broken_script_would_be_noticed(browser, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text("<script>nowhere.to.be.found</script>")
    page, wrong = browser.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    page.close()

    assert ["nowhere is not defined" in error for error in wrong] == [True]
