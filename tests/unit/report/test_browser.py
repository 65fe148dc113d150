import re
import shutil
import subprocess

import pytest

import made_up
from thalweg.report import write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium on PATH")


def opened(path, profile) -> tuple[str, str]:
    """Open a page in a browser without a screen; return its elements when loaded, and what it logged."""
    quiet = ["background-networking", "component-update", "gpu", "quic", "sync"]
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{what}" for what in quiet),
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if ":CONSOLE" in line)


def test_browser_draws_every_figure_without_an_error(tmp_path):
    hostile = "</script><script>document.title = 'broken out'</script>"
    races = [made_up.race(diverged={"sgd": 1}), made_up.race(seed=1, task=hostile, rates=1)]
    page, logged = opened(write(races, tmp_path / "report.html"), tmp_path / "profile")

    assert logged == ""
    drawn = re.findall(r'class="js-plotly-plot|class="plot js-plotly-plot', page)
    assert len(drawn) == 5  # two races: three figures, and two where the rates were given
    assert page.count('class="main-svg"') >= 5
    assert "<title>2 races · Thalweg</title>" in page
    legends = re.findall(r'class="legendtext"[^>]*data-unformatted="([^"]*)"', page)
    assert set(legends) == {"sgd", "momentum", "rmsprop", "adam"}


def test_a_broken_script_would_be_noticed(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<script>nowhere.to.be.found</script>")

    assert "ReferenceError" in opened(page, tmp_path / "profile")[1]
