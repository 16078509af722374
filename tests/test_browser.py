"""The built book in headless Chromium, over file://."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dfmsd import doctor
from tests.conftest import Built
from tests.test_book import toc

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


@pytest.mark.parametrize("page", toc())
def test_page_opens_without_an_error(page: str, browser: Any, built_book: Built) -> None:
    opened(browser, built_book, page)
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    resources = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in resources if not name.startswith(("file:", "data:"))] == []
    broken = browser.execute_script("return [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80))")
    assert broken == []


@pytest.mark.parametrize("page", toc())
def test_maths_is_rendered(page: str, browser: Any, built_book: Built) -> None:
    opened(browser, built_book, page)
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


@pytest.mark.parametrize("page", toc())
def test_a_phone_does_not_scroll_sideways(page: str, browser: Any, built_book: Built) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        opened(browser, built_book, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_links_inside_the_book_lead_somewhere(browser: Any, built_book: Built) -> None:
    for page in toc():
        opened(browser, built_book, page)
        links = browser.execute_script("return [...document.querySelectorAll('article a[href]')].map(a => a.href)")
        for link in links:
            parts = urlsplit(link)
            if parts.scheme == "file":
                assert Path(unquote(parts.path)).exists(), f"{page}: {link}"
