"""The built book in headless Chromium, over file://."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
from tests.report.test_book import toc

from dfmsd.report.tables import below, grouped, styled
from dfmsd.study import doctor, paths
from tests.conftest import Built

pytestmark = [pytest.mark.book, pytest.mark.slow, pytest.mark.xdist_group("book")]

PHONE = 390
"""Width in pixels."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = doctor.find_browser()
    if found is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found.binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found.driver))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def opened(browser: Any, built: Built, page: str) -> Any:
    """The browser once a page and its maths have settled."""
    browser.get((built.html / f"{page}.html").as_uri())
    browser.execute_async_script(
        "const done = arguments[0]; const settle = () => window.MathJax ? MathJax.startup.promise.then(done) : done();"
        "document.readyState === 'complete' ? settle() : addEventListener('load', settle)"
    )
    return browser


@dataclass(frozen=True)
class Shown:
    """A page that is open."""

    browser: Any
    log: list[dict[str, Any]]
    """What the browser said while it opened."""


@pytest.fixture(scope="module", params=toc())
def shown(request: pytest.FixtureRequest, browser: Any, built_book: Built) -> Shown:
    """Every page of the book in turn, opened once for all tests that only look at it."""
    opened(browser, built_book, request.param)
    return Shown(browser, browser.get_log("browser"))


def test_page_opens_without_an_error(shown: Shown) -> None:
    browser = shown.browser
    assert [entry for entry in shown.log if entry["level"] in ("SEVERE", "WARNING")] == []
    resources = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in resources if not name.startswith(("file:", "data:"))] == []
    broken = browser.execute_script("return [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80))")
    assert broken == []


def test_maths_is_rendered(shown: Shown) -> None:
    browser = shown.browser
    count = "return document.querySelectorAll(arguments[0]).length"
    assert browser.execute_script(count, "mjx-container") >= browser.execute_script(count, "span.math, div.math")
    assert browser.execute_script(count, "mjx-merror, [data-mjx-error]") == 0
    text = browser.execute_script(
        "const a = document.querySelector('article').cloneNode(true);"
        "a.querySelectorAll('pre, code').forEach(e => e.remove()); return a.textContent"
    )
    assert not [raw for raw in ("$$", "\\(", "\\[", "\\frac", "{cite", "{ref") if raw in text]


def test_the_method_has_equations(browser: Any, built_book: Built) -> None:
    opened(browser, built_book, "method")
    assert browser.execute_script("return document.querySelectorAll('mjx-container[display=true]').length") >= 6


def test_a_phone_does_not_scroll_sideways(shown: Shown) -> None:
    browser = shown.browser
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert browser.execute_script("return innerWidth") == PHONE
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@cache
def places(file: Path) -> frozenset[str]:
    """Where links may lead within a page."""
    return frozenset(re.findall(r'\bid="([^"]+)"', file.read_text()))


def test_links_inside_the_book_lead_somewhere(shown: Shown) -> None:
    for link in shown.browser.execute_script("return [...document.querySelectorAll('article a[href]')].map(a => a.href)"):
        parts = urlsplit(link)
        if parts.scheme == "file":
            target = Path(unquote(parts.path))
            assert target.exists(), link
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in places(target), link


def table_alone(browser: Any, folder: Path, html: str) -> Any:
    """The browser with a page of one table and the book's script."""
    script = (paths.ROOT / "book" / "_static" / "tables.js").as_uri()
    file = folder / "mine.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><title>t</title>{html}<script src="{script}"></script>')
    browser.get(file.as_uri())
    return browser


def column(browser: Any) -> list[str]:
    return list(browser.execute_script("return [...document.querySelectorAll('tbody tr')].map(r => r.cells[0].textContent)"))


def click(browser: Any, place: int) -> str | None:
    """Click a head; returns how the column is sorted then."""
    head = f"document.querySelector('thead tr:last-child').cells[{place}]"
    sorted_: str | None = browser.execute_script(f"{head}.querySelector('button').click(); return {head}.ariaSort")
    return sorted_


def csv(browser: Any) -> list[str]:
    """The lines that the link would download."""
    href = browser.execute_script(
        "const link = document.querySelector('a.csv'); link.addEventListener('click', e => e.preventDefault());"
        "link.click(); return link.href"
    )
    start = "data:text/csv;charset=utf-8,"
    assert href.startswith(start)
    return unquote(href.removeprefix(start)).removeprefix("\ufeff").splitlines()


def test_tables_are_sorted_within_their_groups(browser: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"AP": ["9.5" + below("9.0 to 10.0"), "–", "10.5", "−2.0", "+1.0"]})
    shown = table_alone(browser, tmp_path, grouped(frame, list("xxxyy"), list("abcde"), "mine", "").to_html())
    before = column(shown)
    assert before == ["x", "a", "b", "c", "y", "d", "e"]
    assert click(shown, 1) == "ascending"
    assert column(shown) == ["x", "a", "c", "b", "y", "d", "e"]
    assert click(shown, 1) == "descending"
    assert column(shown) == ["x", "c", "a", "b", "y", "e", "d"]
    assert click(shown, 1) == "none"
    assert column(shown) == before
    click(shown, 1)
    assert click(shown, 0) == "ascending"
    assert shown.execute_script("return document.querySelectorAll('th[aria-sort]').length") == 1
    assert [entry for entry in shown.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]] == []


def test_tables_are_downloaded_with_their_groups_and_intervals(browser: Any, tmp_path: Path) -> None:
    heads = pd.MultiIndex.from_tuples([("ours, mini", "AP"), ("ours, mini", "seeds")])
    frame = pd.DataFrame([["9.5" + below("9.0 to 10.0"), "1, 2"], ["−2.0", "–"]], columns=heads)
    shown = table_alone(browser, tmp_path, grouped(frame, ["x", "y"], ["a", 'b "c"'], "mine", "").to_html())
    assert csv(shown) == [
        'group,,"ours, mini / AP","ours, mini / AP, note","ours, mini / seeds"',
        'x,a,9.5,9.0 to 10.0,"1, 2"',
        'y,"b ""c""",-2.0,,',
    ]
    assert shown.execute_script("return document.querySelector('a.csv').download") == "mine-mine.csv"


def test_a_table_without_heads_or_rows_is_left_as_it_is(browser: Any, tmp_path: Path) -> None:
    facts = styled(pd.DataFrame({"": ["scale"], "these numbers": ["mini"]}), "facts").hide(axis="index").hide(axis="columns")
    shown = table_alone(browser, tmp_path, facts.to_html())
    assert shown.execute_script("return document.querySelectorAll('button').length") == 0
    assert csv(shown) == [",", "scale,mini"]
    shown = table_alone(browser, tmp_path, styled(pd.DataFrame({"AP": []}), "none").to_html())
    assert shown.execute_script("return document.querySelectorAll('button, a.csv').length") == 0


TABLES = """return [...document.querySelectorAll("article table")].map(table => ({
    name: table.id || table.className,
    rows: table.tBodies[0].rows.length,
    heads: table.tHead?.rows.length ? [...table.tHead.rows].at(-1).cells.length : 0,
    unnamed: table.tHead ? [...table.tHead.querySelectorAll("button")].slice(1).filter(b => !b.textContent.trim()).length : 0,
    buttons: table.querySelectorAll("thead button").length,
    csv: table.nextElementSibling?.matches("a.csv") ?? false,
    file: table.nextElementSibling?.download,
}))"""


def test_every_table_of_the_book_is_sorted_and_downloaded(shown: Shown) -> None:
    found = [table for table in shown.browser.execute_script(TABLES) if table["rows"]]
    assert [table for table in found if not table["csv"]] == []
    assert len({table["file"] for table in found}) == len(found)
    assert [table for table in found if table["buttons"] != table["heads"]] == []
    # A head without a name is a place where nobody clicks; names of rows need none.
    assert [table for table in found if table["unnamed"]] == []


def test_tables_are_there_to_be_sorted(browser: Any, built_book: Built) -> None:
    for page, tables in (("pages/scoreboard", 1), ("pages/table03", 6), ("pages/shares", 2), ("pages/shapes", 2)):
        assert len(opened(browser, built_book, page).execute_script(TABLES)) >= tables, page


def test_a_record_is_two_clicks_from_the_scoreboard(browser: Any, built_book: Built) -> None:
    opened(browser, built_book, "pages/scoreboard")
    links = browser.execute_script("return [...document.querySelectorAll('#T_scoreboard a.words')].map(a => a.href)")
    (first,) = {link for link in links if "/table03.html#" in link}
    browser.get(first)
    place = urlsplit(first).fragment
    inside = "return [...document.getElementById(arguments[0]).querySelectorAll('td a')].map(a => a.href)"
    records = browser.execute_script(inside, place)
    assert records and all(Path(unquote(urlsplit(link).path)).exists() for link in records)


def test_every_picture_has_words(shown: Shown) -> None:
    wordless = shown.browser.execute_script(
        "const said = e => "
        "(e.getAttribute('alt') ?? e.getAttribute('aria-label') ?? e.querySelector('title')?.textContent ?? '').trim();"
        "return [...document.querySelectorAll('article img, article svg:not([aria-hidden=true]):not(mjx-container svg)')]"
        ".filter(e => !said(e)).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wordless == []


def test_search_finds_a_word(browser: Any, built_book: Built) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{(built_book.html / 'search.html').as_uri()}?q=bootstrap")
    found = "return document.querySelectorAll('#search-results li a[href*=\"how-to-read.html\"]').length"
    assert WebDriverWait(browser, 30).until(lambda shown: shown.execute_script(found)) > 0
