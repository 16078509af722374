"""The book at the scale smoke: built once, every page opened once in headless Chromium; what is wrong is listed page by page.

One test builds; where that fails the others are skipped with its reason. Nothing here has a limit of time: a slow machine is none
that fails.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from IPython.display import Markdown

from dfmsd.errors import StudyError
from dfmsd.report import book, glossary, tables
from dfmsd.study import doctor, ensure, exports, pages, paths, plan, records
from dfmsd.study.files import write_atomic
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import PageSpec, SensitivityPage
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.rows import name_of
from dfmsd.study.spec import Run, StartSpec
from tests.conftest import WriteRecord
from tests.report import conftest
from tests.report.conftest import PAYLOAD
from tests.report.test_row_pages import rows

pytestmark = [pytest.mark.book, pytest.mark.slow, pytest.mark.xdist_group("book")]

PHONE = 390
"""Width in pixels."""


def copy_book(study: Path) -> Path:
    """The book's sources in a folder of their own, beside what they quote from."""
    study.mkdir(parents=True, exist_ok=True)
    for name in ("dfmsd", "params", "configs", "CITATION.cff"):
        (study / name).symlink_to(paths.ROOT / name)
    made = shutil.ignore_patterns("_build", "pages", "records")
    return Path(shutil.copytree(paths.ROOT / "book", study / "book", ignore=made))


def tried(run: Run) -> set[str]:
    """What a run tries out: a start, a network, a method between heads of such kinds, all that a stage can be told but amounts."""
    if isinstance(run, StartSpec):
        return {run.key}
    found = {run.name, f"{run.images} images, {run.schedule.epochs} epochs, split {run.eval_split}"}
    if run.stage is not None:
        kinds = [run.network.kind, *(teacher.network.kind for teacher in run.stage.teachers)]
        told = run.stage.model_dump_json(exclude={"teacher": True, "beside": True, "balance": True, "enhance": {"weak"}})
        amounts = json.loads(told, parse_float=lambda amount: str(float(amount) != 0))
        found |= {f"{kinds} {[method.type for method in run.stage.methods]}", json.dumps(amounts)}
    return found


def shown(page: Page, runs: tuple[Run, ...]) -> str:
    """What a page shows by a chain of runs: each row of a curve, else its subject, a student alone and a taught one."""
    last = runs[-1]
    subjects = [entry.runs for entry in page.entries if name_of(entry.row) == page.subject] if isinstance(page, PageSpec) else []
    if isinstance(page, SensitivityPage) or runs in subjects[:1]:
        return last.key
    return f"taught: {not isinstance(last, StartSpec) and last.stage is not None}"


def enough() -> list[tuple[Run, ...]]:
    """Chains of runs that try out all that any run of any page does but amounts and pairs, and what each page shows."""
    chosen: list[tuple[Run, ...]] = []
    seen: set[str] = set()
    for page in (pages.get(name, scale="smoke") for name in pages.names()):
        for runs in page.chains():
            new = {f"{page.page} {shown(page, runs)}"}.union(*map(tried, plan.order([runs]))) - seen
            if new or isinstance(page, MeasuredPage):
                chosen.append(runs)
            seen |= new
    return chosen


@dataclass(frozen=True)
class Attempt:
    """The one attempt to build the book."""

    html: Path
    error: BaseException | None


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempt]:
    """The book of all pages, enough runs trained, warnings taken for errors; the environment names its folders from then on."""
    home = tmp_path_factory.mktemp("book")
    source = copy_book(home / "study")
    places = {"RUNS": home / "runs", "RECORDS": home / "records", "DATA": home / "data", "BOOK": source}
    with pytest.MonkeyPatch.context() as patch:
        for name, place in places.items():
            patch.setenv(f"DFMSD_{name}", str(place))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.delenv("DFMSD_COCO", raising=False)
        train, keys, error = ensure.ensure, {runs[-1].key for runs in enough()}, None
        patch.setattr(ensure, "ensure", lambda all, **more: train([runs for runs in all if runs[-1].key in keys], **more))
        try:
            book.build(scale="smoke", strict=True)
        except (Exception, SystemExit) as failed:
            error = failed
        yield Attempt(source / "_build" / "html", error)


@pytest.fixture(scope="module")
def html(attempt: Attempt) -> Path:
    """The root of the built book."""
    if attempt.error is not None:
        pytest.skip(f"the book was not built: {attempt.error}")
    return attempt.html


def contents() -> list[str]:
    """Every page of the book, as its path without an ending."""
    found = book.contents()
    return [found["root"], *(chapter["file"] for part in found["parts"] for chapter in part["chapters"])]


def test_the_book_is_built_without_a_warning(attempt: Attempt) -> None:
    if attempt.error is not None:
        raise attempt.error
    assert [name for name in contents() if not (attempt.html / f"{name}.html").exists()] == []
    written = [*paths.book().glob("*.md"), *paths.book().glob("methods/*.md")]
    assert {str(file.relative_to(paths.book()).with_suffix("")) for file in written} <= set(contents())


def test_records_and_files_lie_where_a_page_links_to_them(html: Path) -> None:
    """The same links work from a notebook in this repository."""
    page = pages.get("table03", scale="smoke")
    trained = [run.key for run in plan.order(page.chains()) if exports.are_here(run.key)]
    wanted = {run.key for run in plan.order(enough())}
    assert trained and set(trained) >= {run.key for run in plan.order(page.chains())} & wanted
    assert [key for key in trained if records.read(html / "book" / "records" / f"{key}.json").key != key] == []
    for file in [*paths.PARAMS.rglob("*.yaml"), *paths.NOTEBOOKS.glob("*.ipynb")]:
        assert (html / file.relative_to(paths.ROOT)).read_text() == file.read_text()


@pytest.mark.exhaustive
def test_every_run_of_every_page_trains(html: Path) -> None:
    chains = [runs for name in pages.names() for runs in pages.get(name, scale="smoke").chains()]
    assert len(plan.order(chains)) > len(plan.order(enough()))
    assert ensure.ensure(chains, jobs=2, quiet=True).complaints() == []


def test_nothing_on_a_page_names_this_machine(html: Path) -> None:
    texts = {name: (paths.pages() / f"{name}.ipynb").read_text() for name in pages.names()}
    assert [name for name, text in texts.items() if str(paths.ROOT) in text or str(paths.runs()) in text] == []


def test_a_link_to_the_glossary_says_what_the_word_means(html: Path) -> None:
    links = re.findall(
        r'<a class="reference internal"[^>]*title="([^"]*)"[^>]*><span class="xref std std-term">(.+?)</span>',
        (html / "intro.html").read_text(),
    )
    assert ("SAL", glossary.SHORT["SAL"]) in [(word, title) for title, word in links] and len(links) >= 4


def test_an_abbreviation_is_explained_where_it_first_stands_in_the_prose_of_a_page(html: Path) -> None:
    """A finding, which is an output of a notebook, is prose; a plain word such as share is not an abbreviation."""
    texts = {
        file.stem: re.sub(r"(?s)<table.*?</table>", "", file.read_text())
        for file in [html / "method.html", *html.glob("pages/*.html")]
    }
    explained = f'<abbr title="{glossary.SHORT["AP"]}">AP</abbr>'
    findings = [part for text in texts.values() for part in re.findall(r'(?s)<div class="cell_output.*?</div>', text)]
    assert any("<abbr title=" in finding for finding in findings)
    assert {name: count for name, text in texts.items() if (count := text.count(explained)) > 1} == {}
    assert [texts["method"].count(f">{term}</abbr>") for term in ("SFA", "share")] == [1, 0]


def test_a_drawing_is_a_part_of_its_page_with_a_number_and_a_caption(html: Path) -> None:
    """So that its words are selected and found; of a method's page, of the first screen, of the text."""
    for name in ("methods/mgd", "intro", "method"):
        found = re.search(r'(?s)<figure class="[^"]*" id="[\w-]+">(.*?)</figure>', (html / f"{name}.html").read_text())
        assert found and "<svg" in found[1] and "<text" in found[1] and "<img" not in found[1], name
        assert re.search(r'class="caption-number">Figure [\d.]+ ', found[1]), name


def test_pages_that_train_show_a_row_for_each_student(html: Path) -> None:
    """From data that the page has made to the detector that mmdet loads; and a loss of the notebook's own beside the study's."""
    shown = {}
    for name, cell in (("own", "results"), ("loss", "table"), ("own", "export")):
        (found,) = [one for one in nbformat.read(paths.pages() / f"{name}.ipynb", as_version=4).cells if one["id"] == cell]
        (shown[cell],) = [output.data["text/html"] for output in found.outputs if "text/html" in output.get("data", {})]
    assert all(f">{row}</th>" in shown["results"] for row in ("baseline", "DMKD", "DFMSD"))
    assert len(re.findall(r"\b[0-9a-f]{12}\b", shown["results"])) == 3, "each row was trained"
    own = shown["table"].partition("FCOS R50 taught by GFL R101<")[2].partition("FCOS R50 taught by ")[0]
    assert own.index(">MSE</th>") < own.index(">DMKD</th>") < own.index(">Huber</th>") and "not run" not in own
    assert "annotated objects" in shown["export"]


def test_a_page_is_executed_again_when_a_record_changes_and_not_before(html: Path) -> None:
    page = pages.get("table03", scale="smoke")
    assert book.job(page).is_done()
    file = paths.runs() / page.chains()[0][-1].key / "record.json"
    before = file.read_text()
    try:
        file.write_text(records.dump(records.read(file).model_copy(update={"note": "changed"})))
        assert not book.job(page).is_done()
    finally:
        file.write_text(before)
    assert book.job(page).is_done()


def test_a_page_that_cannot_be_measured_stops_the_book(folders: Path) -> None:
    page = pages.get("families", scale="smoke")
    assert isinstance(page, MeasuredPage)
    page.measured_file().parent.mkdir(parents=True)
    page.measured_file().write_text("{")
    with pytest.raises(StudyError, match=f"{page.measured_file().name} .*delete it"):
        book._measure_all([page])


def test_a_broken_reference_fails_the_strict_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = copy_book(tmp_path / "study")
    (source / "_toc.yml").write_text("format: jb-book\nroot: notation\n")
    (source / "pages" / "extra").mkdir(parents=True)
    (source / "notation.md").write_text("# Notation\n\n{ref}`nowhere`\n")
    monkeypatch.setenv("DFMSD_BOOK", str(source))
    with pytest.raises(StudyError, match=r"the book was not built: .*nowhere"):
        book._render(strict=True)


def test_no_script_of_a_record_or_a_params_file_reaches_the_built_page(
    write_record: WriteRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFMSD_BOOK", str(source := copy_book(tmp_path / "study")))
    parameters = rows({"recipe": "dmkd", "name": PAYLOAD}) | {"title": 'One & "two"', "question": PAYLOAD}
    page = PageSpec(**parameters)
    conftest.fill(page, write_record)
    for file in paths.records().glob("*.json"):
        write_atomic(file, records.dump(conftest.hostile(records.read(file))))
    # What the notebook's cells show, and Markdown that may hold no HTML.
    raw = f"```{{raw}} html\n{PAYLOAD}\n```"
    shown = [*conftest.run("comparison", **parameters).values(), *map(tables.markdown, (PAYLOAD, raw))]
    cells = [nbformat.v4.new_markdown_cell("# Title", metadata={"tags": ["page-title"]})]
    for value in shown:
        kind, text = ("text/markdown", value.data) if isinstance(value, Markdown) else ("text/html", conftest.html(value))
        cells.append(nbformat.v4.new_code_cell("shown", outputs=[nbformat.v4.new_output("display_data", {kind: text})]))
    notebook = nbformat.v4.new_notebook(cells=cells)
    book._finish(notebook, parameters)
    write_atomic(source / "pages" / "mine.ipynb", nbformat.writes(notebook))
    original = pages.get
    monkeypatch.setattr(pages, "get", lambda *a, **k: original(*a, **k).model_copy(update={"title": PAYLOAD, "question": PAYLOAD}))
    table = book.table_of_pages()
    assert table.count("\n") == 2 + len(pages.names())
    (source / "pages" / "extra").mkdir()
    (source / "all.md").write_text(f"# All\n\n{table}")
    (source / "_toc.yml").write_text("format: jb-book\nroot: all\nchapters:\n- file: pages/mine\n")
    book._render(strict=False)
    for name in ("all", "pages/mine"):
        built = (source / "_build" / "html" / f"{name}.html").read_text()
        assert "onerror=alert(1)&gt;" in built
        assert not [part for part in ("<img src=x", "<script>alert", 'href="javascript') if part in built], name


def test_a_page_that_the_contents_do_not_name_follows_the_last_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that they name and nobody has written is left out."""
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path))
    chapters = [["unwritten", "pages/unwritten", "pages/table03", "pages/table04"], ["methods/mgd", "pages/losses"]]
    parts = [{"chapters": [{"file": file} for file in part]} for part in chapters]
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"root": "x", "parts": parts}))
    (tmp_path / "methods").mkdir()
    for name in ("mgd", "newest"):
        (tmp_path / "methods" / f"{name}.md").touch()
    found = contents()
    assert not {"unwritten", "pages/unwritten"} & set(found)
    place = found.index("pages/table04")
    assert found[place + 1 : place + 4] == ["pages/structural", "pages/table01", "pages/table02"]
    assert found.index("methods/newest") == found.index("methods/mgd") + 1
    assert {f"pages/{name}" for name in pages.names()} <= set(found)


def test_what_a_page_documents_is_named_by_its_own_module() -> None:
    """The source code's links lead back to the name that a page has first, of whatever is defined beside it."""
    for page in (*paths.book().glob("*.md"), *paths.book().glob("methods/*.md")):
        for module, name in re.findall(r"auto(?:class|function):: (\S+)\.(\w+)", page.read_text()):
            assert getattr(import_module(module), name).__module__ == module, f"{page.name}: {name}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = doctor.find_browser()
    if found is None:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = found.binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found.driver))
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


SETTLED = """const done = arguments[0];
const settle = () => window.MathJax ? MathJax.startup.promise.then(done) : done();
document.readyState === 'complete' ? settle() : addEventListener('load', settle)"""

LOOK = """const title = e => e.querySelector('title')?.textContent ?? '';
const said = e => (e.getAttribute('alt') ?? e.getAttribute('aria-label') ?? title(e)).trim();
const all = query => [...document.querySelectorAll(query)];
const article = document.querySelector('article').cloneNode(true);
article.querySelectorAll('pre, code').forEach(e => e.remove());
const tables = all('article table').filter(t => t.tBodies[0]?.rows.length);
return {
  fetched: performance.getEntriesByType('resource').map(e => e.name).filter(name => !/^(file|data):/.test(name)),
  broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80)),
  raw: ['$$', '\\\\(', '\\\\[', '\\\\frac', '{cite', '{ref'].filter(mark => article.textContent.includes(mark)),
  maths: all('mjx-container').length - all('span.math, div.math').length,
  wrong: all('mjx-merror, [data-mjx-error]').map(e => e.outerHTML.slice(0, 80)),
  wordless: all('article img, article svg:not([aria-hidden=true]):not(mjx-container svg)')
    .filter(e => !said(e)).map(e => e.outerHTML.slice(0, 80)),
  links: all('article a[href]').map(a => a.href),
  empty: all('.cell.tag_hide-input:not(.tag_injected-parameters)')
    .filter(e => !e.querySelector('.cell_output')).map(e => e.innerText),
  unsaved: tables.filter(t => !t.nextElementSibling?.matches('a.csv')).map(t => t.id || t.className),
}"""

WIDE = """const holds = e => /auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || e.matches('article');
const box = e => holds(e) ? e : box(e.parentElement);
const stays = table => [...table.tBodies[0].rows].every(row => getComputedStyle(row.cells[0]).position === 'sticky');
const tables = [...document.querySelectorAll('article table')].filter(t => t.tBodies[0]?.rows.length && t.offsetWidth);
const cut = tables.filter(t => t.offsetWidth > box(t.parentElement).clientWidth + 1 && !(arguments[0] && stays(t)));
return cut.map(t => t.id || t.textContent.trim().slice(0, 40))"""
"""Tables wider than their box; with an argument that is true, those alone whose first column does not stay in sight."""

SCROLLS = ("T_runs", "T_shares")
"""Tables with a column for each term or fact of a run, which may scroll beside their names on a wide screen, too."""

SMALL = """return [...document.querySelectorAll('article svg.drawn')].flatMap(drawing => {
  const scale = drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width * 72 / 96;
  const size = e => parseFloat(getComputedStyle(e).fontSize) * scale;
  const letters = [...drawing.querySelectorAll('text, tspan')].map(e => [e.textContent.trim(), size(e)]);
  return letters.filter(([words, points]) => words && scale && points < 8);
})"""

DARK = """document.documentElement.dataset.theme = 'dark';
const parts = colour => colour.match(/[\\d.]+/g).map(Number);
const linear = v => v <= 10 ? v / 3295 : ((v / 255 + 0.055) / 1.055) ** 2.4;
const light = colour => parts(colour).slice(0, 3).reduce((sum, v, i) => sum + linear(v) * [0.2126, 0.7152, 0.0722][i], 0.05);
const paper = e => {
  const own = getComputedStyle(e).backgroundColor;
  return (parts(own)[3] ?? 1) > 0.5 ? light(own) : paper(e.parentElement);
};
const contrast = e => [light(getComputedStyle(e).color), paper(e)].sort((a, b) => b - a).reduce((a, b) => a / b);
const said = [...document.querySelectorAll('article :is(td, th, caption, figcaption, p)')].filter(e => e.textContent.trim());
const pale = said.filter(e => contrast(e) < 3).map(e => e.textContent.trim().slice(0, 40));
document.documentElement.dataset.theme = 'light';
return pale"""


@dataclass(frozen=True)
class Visit:
    """What one look at a page found."""

    found: dict[str, Any]
    log: list[str]
    width: int
    """That a phone must scroll through."""


@pytest.fixture(scope="module")
def visits(html: Path, browser: Any) -> dict[str, Visit]:
    """Every page of the book, opened once."""
    seen = {}
    phone = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    for name in contents():
        browser.get((html / f"{name}.html").as_uri())
        browser.execute_async_script(SETTLED)
        log = [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        found = browser.execute_script(LOOK)
        found |= {"small": browser.execute_script(SMALL), "pale": browser.execute_script(DARK)}
        found["wide"] = [one for one in browser.execute_script(WIDE, False) if one not in SCROLLS] + browser.execute_script(
            WIDE, True
        )
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        found["small"] += browser.execute_script(SMALL)
        found["wide"] += browser.execute_script(WIDE, True)
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        seen[name] = Visit(found, log, width)
    return seen


@pytest.mark.parametrize("fault", ["fetched", "broken", "raw", "wrong", "wordless", "empty", "unsaved", "wide", "small", "pale"])
def test_no_page_has_this_fault(visits: dict[str, Visit], fault: str) -> None:
    """Fetched from the web, a broken image, raw or wrong maths, a picture without words, a bar above nothing, no download.

    And a table that a wide screen cuts off, or whose first column a phone does not keep in sight, letters of a figure under 8 pt,
    and words that a dark page hides.
    """
    assert {name: visit.found[fault] for name, visit in visits.items() if visit.found[fault]} == {}


def test_the_console_says_nothing(visits: dict[str, Visit]) -> None:
    assert {name: visit.log for name, visit in visits.items() if visit.log} == {}


def test_all_maths_is_rendered(visits: dict[str, Visit]) -> None:
    assert {name: visit.found["maths"] for name, visit in visits.items() if visit.found["maths"] < 0} == {}


def test_a_phone_does_not_scroll_sideways(visits: dict[str, Visit]) -> None:
    assert {name: visit.width for name, visit in visits.items() if visit.width > PHONE} == {}


def test_links_inside_the_book_lead_somewhere(visits: dict[str, Visit]) -> None:
    targets = {link: name for name, visit in visits.items() for link in visit.found["links"] if link.startswith("file:")}
    places: dict[Path, set[str]] = {}
    dead = {}
    for link, name in targets.items():
        parts = urlsplit(link)
        file, place = Path(unquote(parts.path)), unquote(parts.fragment)
        if file not in places:
            is_page = file.suffix == ".html" and file.exists()
            places[file] = set(re.findall(r'\bid="([^"]+)"', file.read_text())) if is_page else set()
        if not file.exists() or (place and file.suffix == ".html" and place not in places[file]):
            dead[link] = name
    assert dead == {}


def test_search_finds_a_word(html: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(f"{(html / 'search.html').as_uri()}?q=bootstrap")
    found = "return document.querySelectorAll('#search-results li a[href*=\"how-to-read.html\"]').length"
    assert WebDriverWait(browser, 600).until(lambda shown: shown.execute_script(found)) > 0


TABLE = """<!doctype html><meta charset="utf-8"><title>t</title><article><table id="T_mine">
<thead><tr><th></th><th colspan="2">ours, mini</th></tr><tr><th>row</th><th>AP</th><th>seeds</th></tr></thead>
<tbody><tr><th>x</th><td></td><td></td></tr><tr><th>a</th><td>9.5</td><td>1, 2</td></tr><tr><th>b "c"</th><td>–</td><td></td></tr>
<tr><th>c</th><td>10.5</td><td></td></tr><tr><th>y</th><td></td><td></td></tr><tr><th>d</th><td>−2.0</td><td>–</td></tr>
<tr><th>e</th><td>+1.0</td><td></td></tr></tbody></table></article><script src="{script}"></script>"""


def test_tables_are_sorted_within_their_groups_and_downloaded(browser: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.html"
    file.write_text(TABLE.replace("{script}", (paths.ROOT / "book" / "_static" / "tables.js").as_uri()))
    browser.get(file.as_uri())
    column = "return [...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent)"
    click = "document.querySelector('thead tr:last-child').cells[1].querySelector('button').click();" + column
    assert browser.execute_script(click) == ["x", "a", "c", 'b "c"', "y", "d", "e"]
    assert browser.execute_script(click) == ["x", "c", "a", 'b "c"', "y", "e", "d"]
    assert browser.execute_script(click) == ["x", "a", 'b "c"', "c", "y", "d", "e"]
    href = browser.execute_script(
        "const link = document.querySelector('a.csv'); link.addEventListener('click', e => e.preventDefault());"
        "link.click(); return link.href"
    )
    lines = unquote(href.removeprefix("data:text/csv;charset=utf-8,")).removeprefix("\ufeff").splitlines()
    assert lines == [
        'group,row,"ours, mini / AP","ours, mini / seeds"',
        'x,a,9.5,"1, 2"',
        'x,"b ""c""",,',
        "x,c,10.5,",
        "y,d,-2.0,",
        "y,e,+1.0,",
    ]


def test_the_published_book_links_to_its_repository_and_its_issues(tmp_path: Path) -> None:
    """By the workflow's own step; in a checkout, which does not know where it is published, nothing is linked."""
    (tmp_path / "book").mkdir()
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(paths.ROOT / "book" / name, tmp_path / "book")
    steps = yaml.safe_load((paths.ROOT / ".github" / "workflows" / "book.yml").read_text())["jobs"]["publish"]["steps"]
    (step,) = (one["run"] for one in steps if "_config.yml" in one.get("run", ""))
    where = os.environ | {"GITHUB_SERVER_URL": "https://git.example", "GITHUB_REPOSITORY": "some/one"}
    names = ("use_issues_button", "use_repository_button", "repository_url", "repository_branch", "path_to_docs")
    said = []
    for command in (["true"], ["bash", "-ec", step]):
        subprocess.run(command, cwd=tmp_path, env=where, check=True)
        subprocess.run([Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", "book"], cwd=tmp_path, check=True)
        options = runpy.run_path(str(tmp_path / "book" / "conf.py"))["html_theme_options"]
        said.append([options.get(name) for name in names])
    assert not any(said[0])
    assert said[1] == [True, True, "https://git.example/some/one", "main", "book"]


FILTERED = """<!doctype html><meta charset="utf-8"><title>t</title><article><table id="T_scoreboard">
<thead><tr><th></th><th>mini</th><th></th><th></th></tr><tr><th></th><th>verdict</th><th>of</th><th>page</th></tr></thead>
<tbody><tr><th>3.1</th><td></td><td></td><td></td></tr><tr><th>a</th><td>supported, stale</td><td>DFMSD</td><td>table03</td></tr>
<tr><th>b</th><td>not run</td><td>ours</td><td>table03</td></tr><tr><th>3.2</th><td></td><td></td><td></td></tr>
<tr><th>c</th><td>not settled</td><td>SKD</td><td>structural</td></tr></tbody></table></article>
<script src="{script}"></script><script src="{tables}"></script>"""


def test_claims_are_filtered_with_the_lines_above_them(browser: Any, tmp_path: Path) -> None:
    static = paths.ROOT / "book" / "_static"
    file = tmp_path / "filtered.html"
    scripts = {"script": static / "filter.js", "tables": static / "tables.js"}
    file.write_text(FILTERED.format(**{name: script.as_uri() for name, script in scripts.items()}))
    browser.get(file.as_uri())
    shown = "return [...document.querySelectorAll('tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].textContent)"
    choose = "const at = document.querySelectorAll('form.filter select')[arguments[0]]; at.value = arguments[1];"
    choose += "at.dispatchEvent(new Event('change', {bubbles: true}));" + shown
    assert browser.execute_script(shown) == ["3.1", "a", "b", "3.2", "c"]
    assert browser.execute_script(choose, 0, "decided") == ["3.1", "a"]
    assert browser.execute_script("return document.querySelector('form.filter output').textContent") == "1 claim"
    assert browser.execute_script(choose, 0, "not run") == ["3.1", "b"]
    assert browser.execute_script(choose, 0, "") == ["3.1", "a", "b", "3.2", "c"]
    assert browser.execute_script(choose, 1, "SKD") == ["3.2", "c"]
    assert browser.execute_script(choose, 2, "table03") == []
