"""The page of a report in a real browser: what a reader clicks, types and sees. Needs chromium and chromedriver."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

import pagelogs
import pytest

from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.page.render import page
from jrt_lmeval.report.tables import Report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver (Debian: chromium-driver)"),
]
SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-prefers-reduced-motion "
    "--window-size=1360,1000"
).split()
PATIENCE = 120  # seconds; of a busy machine
MANY = 4_000


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = pagelogs.write_pair(tmp_path_factory.mktemp("logs"))
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert main([str(folder), "--out", str(out)]) == 0
    return out


def opened(driver, file: Path):
    """The page with its samples unpacked."""
    driver.get(file.as_uri())
    until(driver, "return document.querySelectorAll('#list .row').length > 0 && document.querySelector('#detail h3')")
    return driver


def until(driver, script: str, *arguments):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, PATIENCE).until(lambda _: driver.execute_script(script, *arguments))


def keys(driver, *pressed: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(driver).send_keys(*pressed).perform()


def chosen(driver) -> int:
    """Place in the list of the row that is chosen, from 1."""
    return int(driver.execute_script("return document.querySelector('.row[aria-selected=true]').ariaPosInSet"))


def shown_rows(driver, table: str) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(`#table-${arguments[0]} tbody tr:not(.heading)`)]"
        ".filter((row) => row.offsetParent).map((row) => row.innerText)",
        table,
    )


def no_errors(driver) -> None:
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_a_click_shows_prompt_answers_and_prefix(chromium, file):
    driver = opened(chromium, file)
    driver.find_element("css selector", "#row-3").click()
    assert chosen(driver) == 4
    asked = driver.execute_script("return browser.items[3]")
    heading = pagelogs.question(asked)["key"]
    until(driver, "return document.querySelector('#detail h3').textContent === arguments[0]", heading)
    text = until(driver, "return document.querySelector('#detail .prompt') && browser.items && detail.innerText")
    assert "✓ right" in text and "✗ wrong" in text, "disagreements come first"
    drawn = driver.execute_script(
        "const box = document.querySelector('.prompt'), edge = box.querySelector('.edge-line');"
        "const range = document.createRange(); range.setStart(box, 0); range.setEndBefore(edge);"
        "const marks = [...box.querySelectorAll('mark')].map((mark) => mark.textContent);"
        "return [range.toString(), box.textContent.replace(edge.textContent, ''), marks, edge.textContent]"
    )
    gold = pagelogs.question(asked)["gold"]
    want = pagelogs.line(asked, True, "once", 0.7)
    prompt, end = want["arguments"]["gen_args_0"]["arg_0"], want["doc"]["jrt"]["jrt_prefix_characters"]
    assert drawn[:3] == [prompt[:end], prompt, [gold] * prompt.count(gold)]
    assert f"prefix of A, {end // 4} tokens" in drawn[3]
    no_errors(driver)


def test_filters_leave_the_runs_that_were_asked_for(chromium, file):
    from selenium.webdriver.support.ui import Select

    driver = opened(chromium, file)
    assert len(shown_rows(driver, "runs")) == 4
    Select(driver.find_element("id", "filter-prefix")).select_by_visible_text("full")
    assert len(shown_rows(driver, "runs")) == 2 and all("prefix=full" in row for row in shown_rows(driver, "runs"))
    assert "2 of 4 runs" in driver.find_element("id", "filtered").text
    Select(driver.find_element("id", "filter-layout")).select_by_visible_text("read once")
    heads = driver.execute_script(
        "return [...document.querySelectorAll('#table-recall thead th')].filter((h) => h.offsetParent)"
        ".map((h) => h.innerText)"
    )
    assert heads == ["model", "read once"]
    assert [option.text for option in Select(driver.find_element("id", "side-a")).options] == [
        "jrt_rnn weights prefix=full · read once"
    ]
    driver.find_element("css selector", "#filters button").click()
    until(driver, "return document.getElementById('filtered').textContent === ''")
    assert len(shown_rows(driver, "runs")) == 4
    no_errors(driver)


def test_the_keyboard_is_enough(chromium, file):
    from selenium.webdriver.common.keys import Keys

    driver = opened(chromium, file)
    keys(driver, "j", "j", "k", Keys.ARROW_DOWN)
    assert chosen(driver) == 3
    assert driver.switch_to.active_element.get_attribute("id") == "list"
    assert (
        driver.execute_script("return document.getElementById('list').getAttribute('aria-activedescendant')") == "row-2"
    )
    keys(driver, "n")
    assert driver.execute_script("return document.querySelectorAll('mark.now').length") == 1
    keys(driver, "/", "page 7", Keys.ENTER)
    assert driver.execute_script("return browser.items.length") == 2
    assert driver.switch_to.active_element.get_attribute("id") == "list"
    keys(driver, Keys.END)
    assert chosen(driver) == 2
    driver.execute_script("document.querySelector('.skip').focus()")
    seen = set()
    for _ in range(12):
        keys(driver, Keys.TAB)
        name, ring = driver.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.id || e.outerHTML.slice(0, 80), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth)]"
        )
        assert ring >= 2, f"{name} shows no focus"
        seen.add(name)
    assert len(seen) == 12
    no_errors(driver)


def test_landmarks_and_names(chromium, file):
    driver = opened(chromium, file)
    nameless = driver.execute_script(
        "return [...document.querySelectorAll('input, select, button, [role=listbox], [role=region], svg, section')]"
        ".filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim() && e.tagName === 'BUTTON'"
        " || document.getElementById(e.getAttribute('aria-labelledby')))).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    for mark in ("header", "nav", "main", "footer", "form[role=search]", "article", "h1"):
        assert len(driver.find_elements("css selector", mark)) == 1, mark


CONTRAST = """
const channels = (colour) => {
  const found = colour.match(/[\\d.]+/g).map(Number);
  return [...found.slice(0, 3), found[3] ?? 1];
};
const luminance = (colour) => {
  const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3]));
function ground(element) {
  if (!element) return [255, 255, 255];
  const own = channels(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
}
const weak = [];
let seen = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
  if (!text || !element.getClientRects().length || element.closest('script, style, option, noscript')) continue;
  const style = getComputedStyle(element), colour = element instanceof SVGElement ? style.fill : style.color;
  const below = ground(element), words = over(channels(colour), below);
  const [low, high] = [luminance(words), luminance(below)].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  seen += 1;
  if (ratio < 4.5) weak.push([text.slice(0, 40), colour, below.join(), ratio]);
}
return [seen, weak];
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_word_stands_out_in_both_themes(chromium, file, theme, tmp_path):
    import matplotlib.image

    driver = opened(chromium, file)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    system = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    seen, weak = driver.execute_script(CONTRAST)
    assert seen > 200 and weak == []
    # the toggle goes against the system, and is remembered
    other = {"light": "dark", "dark": "light"}[theme]
    while driver.execute_script("return document.documentElement.dataset.theme") != other:
        driver.find_element("id", "theme").click()
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") != system
    assert driver.execute_script(CONTRAST)[1] == []
    for _ in range(20):  # chromium writes what a page remembers with a delay
        opened(driver, file)
        if driver.execute_script("return document.documentElement.dataset.theme") == other:
            break
        time.sleep(0.2)
    assert driver.execute_script("return document.documentElement.dataset.theme") == other
    while driver.execute_script("return document.documentElement.dataset.theme"):
        driver.find_element("id", "theme").click()
    picture = matplotlib.image.imread(io.BytesIO(driver.get_screenshot_as_png()))
    dark = picture[..., :3].mean() < 0.5
    assert dark == (theme == "dark") and picture[..., :3].std() > 0.02
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    no_errors(driver)


def test_thousands_of_questions_keep_few_rows(chromium, tmp_path):
    from selenium.webdriver.common.keys import Keys

    folder = pagelogs.write_pair(tmp_path / "logs", count=MANY, layouts=("once",))
    collection = collect([folder])
    file = tmp_path / "page.html"
    file.write_text(page(Report(()), collection, "contains"), encoding="utf-8")
    driver = opened(chromium, file)
    counts = (
        "return [document.querySelectorAll('.row').length, browser.items.length, document.querySelectorAll('*').length]"
    )
    rows, items, elements = driver.execute_script(counts)
    assert items == MANY and rows < 60 and elements < 2_000
    keys(driver, "j", Keys.END)
    assert chosen(driver) == MANY
    for top in (0, 1_234, 50_000, 10**9):
        driver.execute_script("document.getElementById('list').scrollTop = arguments[0]", top)
        until(driver, "const l = document.getElementById('list'), b = l.getBoundingClientRect(); "
              "return document.elementFromPoint(b.left + 40, b.top + b.height / 2)?.closest('.row')")  # fmt: skip
        assert driver.execute_script(counts)[0] < 60
    keys(driver, "/", f"page {MANY // 2 - 1}")
    until(driver, "return browser.items.length === 2")
    until(
        driver, "return document.getElementById('detail').textContent.includes(arguments[0])", f"Page {MANY // 2 - 1}."
    )
    no_errors(driver)


def test_a_hostile_log_runs_nothing(chromium, tmp_path):
    folder = pagelogs.write_pair(tmp_path / "logs", count=8, hostile=pagelogs.HOSTILE)
    file = tmp_path / "page.html"
    assert main([str(folder), "--out", str(file)]) == 0
    driver = opened(chromium, file)
    shown = until(driver, "return document.querySelector('.prompt')?.textContent")
    assert shown.startswith(pagelogs.HOSTILE)
    assert driver.title == "Recall report" and not driver.find_elements("css selector", "img")
    no_errors(driver)


def test_the_page_prints(chromium, file):
    driver = opened(chromium, file)
    printed = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    assert len(printed) > 20_000
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = driver.execute_script(
        "return ['filters', 'list', 'theme'].filter((id) => document.getElementById(id).offsetParent)"
    )
    wide = driver.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((e) => e.clientHeight < e.scrollHeight).length"
    )
    assert hidden == [] and not wide, "controls are not printed, and no row is hidden behind a scroll bar"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_table_larger_than_its_box_says_so(chromium, file):
    driver = opened(chromium, file)
    boxes = "[...document.querySelectorAll('.scroll')]"
    sides = "[box.scrollWidth > box.clientWidth + 1, !box.nextElementSibling.hidden]"
    shown = f"return {boxes}.map((box) => {sides})"
    size = driver.get_window_size()
    try:
        driver.set_window_size(420, 900)
        until(driver, "return [...document.querySelectorAll('.hint')].some((hint) => !hint.hidden)")
        found = driver.execute_script(shown)
        assert any(wide for wide, _ in found) and all(said for wide, said in found if wide)
        text = driver.execute_script("return document.querySelector('.hint:not([hidden])').textContent")
        assert text.startswith("There is more of this table: scroll it ")
    finally:
        driver.set_window_size(size["width"], size["height"])
