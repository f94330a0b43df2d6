"""The report page in a real browser: quiet, self-contained, sortable, readable on a phone, usable by keyboard."""

import shutil

import pytest

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the path (apt-get install chromium)"),
]
TABLE = "#table-main-digits"


def study(params):
    """Two defenses, the nine attacks and an exact reading, in seconds."""
    params["run"] |= {"defenses": ["vanilla", "ca_tride"], "seeds": [0]}
    params["run"]["attacks"] = [*params["run"]["attacks"], "es_exact", "qa_plus_eps50", "ltm_steps2"]
    for block in params["attacks"].values():
        block["steps"] = 1
    for data in params["datasets"].values():
        data["attack_queries"] = 60
    params["datasets"]["digits"]["training"] |= {"epochs": 1, "evaluate_every": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished study; its reports/index.html is the page."""
    from conftest import Project

    project = Project(tmp_path_factory.mktemp("page"))
    project.edit(study)
    project.run("snakemake", "--cores", "2")
    return project.folder


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, folder):
    """Open the page from disk at a width; complaints of its console and requests for anything else are collected."""
    contexts = []

    def open_page(width=1400, scheme="light", page=folder / "reports" / "index.html", scripts=True):
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, java_script_enabled=scripts)
        contexts.append(context)
        found = context.new_page()
        found.complaints = []
        found.on("console", lambda message: found.complaints.append(f"{message.type}: {message.text}"))
        found.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.on("request", lambda request: found.complaints.append(request.url))
        found.goto(page.as_uri())
        found.complaints = [line for line in found.complaints if line != page.as_uri() and not line.startswith("data:")]
        return found

    yield open_page
    for context in contexts:
        context.close()


def column(page, number):
    """Texts of one column of the main table, first row first."""
    return [row.locator("td,th").nth(number).inner_text().split("\n")[0].strip() for row in rows(page)]


def rows(page):
    return page.locator(f"{TABLE} tbody tr").all()


@pytest.mark.parametrize("width", [390, 1400])
def test_it_opens_from_disk_and_asks_for_nothing(opened, folder, width):
    page = opened(width)
    assert page.complaints == []
    assert (folder / "reports" / "index.html").stat().st_size < 8e6
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = page.locator("img").all()
    assert len(pictures) > 50
    broken = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)")
    assert broken == []
    names = page.locator("figure img").evaluate_all("found => found.map(i => i.alt)")
    wanted = ("What robustness costs", "The ten parts of ERS", "Training", "Attacks as published", "Robustness by")
    assert all(any(name.startswith(word) for name in names) for word in wanted)


@pytest.mark.parametrize("width", [390, 1400])
def test_text_is_large_enough_and_nothing_is_cut(opened, width):
    """Boxes that scroll sideways say so to the keyboard; outside them nothing is wider than the window."""
    page = opened(width)
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = """Math.min(...[...document.querySelectorAll('body *')]
        .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.offsetParent)
        .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    assert page.evaluate(smallest) >= 11
    scrolling = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth && e.tabIndex < 0)"
    assert page.evaluate(f"{scrolling}.length") == 0


@pytest.mark.parametrize("width", [390, 1024, 1400, 1920])
def test_the_main_table_fits_a_laptop_and_scrolls_by_itself_where_it_does_not(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator(f"{TABLE} .wide")
    shown, whole = box.evaluate("e => [e.clientWidth, e.scrollWidth]")
    assert shown <= width
    assert (whole <= shown) == (width >= 1400)
    last = box.locator("thead tr").nth(1).locator("th").last
    right = "e => e.getBoundingClientRect().right - e.closest('.wide').getBoundingClientRect().right"
    assert (last.evaluate(right) <= 1) == (width >= 1400)
    box.evaluate("e => { e.scrollLeft = e.scrollWidth }")
    assert last.evaluate(right) <= 1
    name = box.locator("tbody th").first  # stays beside the values
    assert name.evaluate("e => e.getBoundingClientRect().left - e.closest('.wide').getBoundingClientRect().left") >= 0


def test_the_headline_names_a_leader_and_how_sure_it_is(opened):
    text = opened().locator("#verdict").inner_text()
    assert "most robust" not in text  # another training may turn the order
    assert "Certainty: each defense was trained once" in text
    assert "60 queries" in text
    assert "not run" in text
    assert "CA-TRIDE" in text


def test_tables_sort_by_value_and_back(opened):
    page = opened()
    order = column(page, 0)
    assert order[0] == "Vanilla"
    assert len(order) == 7
    heading = page.locator(f"{TABLE} thead tr").nth(1).locator("th").nth(1)
    heading.locator("button").click()
    values = [float(text) for text in column(page, 1) if text != "not run"]
    assert len(values) == 2
    assert values == sorted(values, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, 1)[2:] == ["not run"] * 5
    heading.locator("button").click()
    assert [float(text) for text in column(page, 1)[:2]] == sorted(values)
    heading.locator("button").click()
    assert column(page, 0) == order
    lower = page.locator(f"{TABLE} thead tr").nth(1).get_by_text("TMA")
    lower.click()
    tma = [float(text) for text in column(page, 10)[:2]]
    assert tma == sorted(tma)


def test_headings_sort_and_explain_themselves_by_keyboard(opened):
    page = opened()
    button = page.locator(f"{TABLE} thead button").nth(1)
    button.focus()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert tip.inner_text().startswith("R@1: share of queries")
    assert "percent; higher is better" in tip.inner_text()
    between = """() => document.querySelector('[aria-describedby=tip]:focus').getBoundingClientRect().top
        - document.querySelector('#tip').getBoundingClientRect().bottom"""
    for down in [60, -60]:  # focus by keyboard scrolls the page where the heading is outside the window
        page.evaluate(f"window.scrollBy(0, {down})")
        page.evaluate("new Promise(then => requestAnimationFrame(() => requestAnimationFrame(then)))")
        assert tip.is_visible()
        assert 0 <= page.evaluate(between) < 10
    page.keyboard.press("Enter")
    assert page.locator(f"{TABLE} thead th[aria-sort=descending]").count() == 1
    page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_everything_that_can_be_used_is_reached_by_tab_and_shows_it(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        state = page.evaluate(
            "(e => [e.tagName, e.textContent.slice(0, 30), getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        assert state[2] != "none", state
        seen.add(state[0])
    assert {"A", "BUTTON", "INPUT", "SUMMARY"} <= seen


def test_a_figure_leads_to_the_file_it_comes_from(opened, folder):
    from hashlib import sha256

    page = opened()
    cell = page.locator(f"{TABLE} tbody tr").filter(has_text="CA-TRIDE").locator("td").nth(12).locator("a")
    assert cell.get_attribute("href") == "#from-digits-ca_tride-0-ltm"
    cell.click()
    line = page.locator("#from-digits-ca_tride-0-ltm")
    assert line.is_visible()
    path = folder / line.locator("code").nth(0).inner_text()
    assert line.locator("code").nth(1).inner_text() == sha256(path.read_bytes()).hexdigest()
    record = line.locator("a").get_attribute("href")
    assert (folder / "reports" / record).resolve().exists()


def test_local_links_lead_somewhere(opened, folder):
    page = opened()
    targets = set(page.locator("a").evaluate_all("found => found.map(a => a.getAttribute('href'))"))
    inside = {target for target in targets if target.startswith("#")}
    assert page.evaluate("ids => ids.filter(id => !document.getElementById(id.slice(1)))", sorted(inside)) == []
    outside = targets - inside
    assert any(target.startswith("../logs/validation") for target in outside)
    assert [target for target in outside if not (folder / "reports" / target).exists()] == []


def test_intervals_can_be_shown_for_every_column(opened):
    page = opened()
    hidden = page.locator(f"{TABLE} tbody tr").first.locator(".interval:not(.always)").nth(1)
    assert not hidden.is_visible()
    page.locator("#intervals").check()
    assert hidden.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_accessible_with_contrast_aa(opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser")
    page = opened(width, scheme)
    page.evaluate("for (const box of document.querySelectorAll('details')) box.open = true")
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = axe.Axe().run(page, options=rules).response
    assert "color-contrast" in {one["id"] for one in found["passes"]}
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []


def test_without_scripts_everything_is_still_there(opened):
    page = opened(scripts=False)
    assert page.complaints == []
    assert page.locator(f"{TABLE} tbody tr").count() == 7


def test_missing_results_read_not_run_and_break_nothing(opened, folder, tmp_path):
    import subprocess
    import sys

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".snakemake"))
    (copy / "results/digits/ca_tride/0/ltm.json").unlink()
    shutil.rmtree(copy / "results/digits/vanilla")
    for stage in (["visualize", "digits"], ["report"]):
        subprocess.run(
            [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]], cwd=copy, check=True, capture_output=True
        )
    page = opened(page=copy / "reports" / "index.html")
    assert page.complaints == []
    assert "2 configured results are missing" in page.locator("#verdict").inner_text()
    assert "No dataset has all nine attacks" in page.locator("#verdict").inner_text()
    assert column(page, 13)[-1] == "not run"
    assert page.locator("#gallery").inner_text().count("CA-TRIDE") == 3
