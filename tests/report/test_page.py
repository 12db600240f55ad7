"""The page of a report: one file that fetches nothing, escapes everything, and holds what the logs hold."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pagelogs
import pytest
from reportlogs import write_run

from jrt_lmeval.report.cli import main
from jrt_lmeval.report.collect import collect
from jrt_lmeval.report.page.render import browser, inline, merged, within
from jrt_lmeval.report.plots.picture import Picture

MEASURED = Path(__file__).resolve().parents[2] / "results" / "measured"


def written(folder: Path, out: Path, *options: str) -> str:
    assert main([str(folder), "--out", str(out), *options]) == 0
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return pagelogs.write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def page(pair, tmp_path_factory) -> str:
    return written(pair, tmp_path_factory.mktemp("page") / "page.html")


def unpacked(page: str, name: str):
    (text,) = re.findall(rf'<script type="text/plain" id="{name}">([^<]*)</script>', page)
    return json.loads(zlib.decompress(base64.b64decode(text)))


class Elements(HTMLParser):
    """What a browser would make of the page: elements with their attributes, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))


def test_the_page_is_one_file_that_fetches_nothing(page):
    elements = Elements(page).elements
    assert not {tag for tag, _ in elements} & {"iframe", "img", "object", "embed", "base", "form_action"}
    for tag, attributes in elements:
        assert "src" not in attributes and not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S)) + "".join(re.findall(r'style="([^"]*)"', page))
    assert not re.findall(r"@import|url\((?!#)", styles)
    assert not re.findall(r"https?://", page)
    (policy,) = (a["content"] for t, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_only_the_pages_own_script_runs(page):
    (allowed,) = re.findall(r"script-src 'sha256-([^']+)'\"", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed


def test_the_measured_results_make_a_page_under_one_megabyte_without_samples(tmp_path):
    page = written(MEASURED, tmp_path / "page.html", "--samples", "0")
    assert len(page.encode()) < 1_000_000
    assert "text/plain" not in page and "left out with --samples 0" in page


def test_a_page_has_room_for_the_first_picture_of_each_kind():
    asked = []

    class Drawn(Picture):
        def saved(self, kind):
            asked.append(self.name)
            return f"<svg{self.name:>35}".encode()

    pictures = [Drawn(f"{kind}_{n}", f"{kind} {n}", lambda: ("", None)) for kind in "ab" for n in range(3)]
    shown, left = within(pictures, 330)
    assert [picture.name for picture, _, _ in shown] == ["a_0", "a_1", "b_0"]
    assert [one.name for one in left] == ["a_2", "b_1", "b_2"] and "--out FOLDER" in left[0].why
    assert "b_2" not in asked, "what has no room is not drawn"


def test_a_hostile_log_stays_text(tmp_path):
    folder = pagelogs.write_pair(tmp_path / "logs", count=8, hostile=pagelogs.HOSTILE)
    page = written(folder, tmp_path / "page.html")
    elements = Elements(page).elements
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in elements)
    assert page.count("<script>") == 1 and "<!--" not in page.replace("<!doctype", "")
    # and it is there, whole: in the table as text, in the prompts as data
    assert "weights&lt;script&gt;&lt;img src=x onerror=" in page
    assert unpacked(page, "prompts-0")[0][0].startswith(pagelogs.HOSTILE)


def test_prompts_answers_places_and_prefixes_are_those_of_the_log(page):
    index = unpacked(page, "index")
    prompts = [entry for piece in (0, 1) for entry in unpacked(page, f"prompts-{piece}")]
    _, documents, asked, gold = index["questions"]
    assert index["metric"] == "contains" and len(asked) == 40
    assert [side["name"][1] for side in index["sides"]] == ["read twice (JRT)", "read once"] * 2
    for side in index["sides"]:
        layout = {"read once": "once", "read twice (JRT)": "flat"}[side["name"][1]]
        share = 1.0 if "full" in side["name"][0] else 0.7
        details = unpacked(page, f"details-{side['detail'][0] // 256}")
        for place in range(0, 40, 7):
            number = side["question"][place]
            want = pagelogs.line(number, bool(side["score"][place]), layout, share)
            text, spans, whole = prompts[side["prompt"][place]]
            assert whole and text == want["arguments"]["gen_args_0"]["arg_0"]
            assert side["answer"][place] == want["filtered_resps"][0].strip()
            assert documents[number] == want["doc"]["doc_id"] and asked[number] == want["doc"]["key"]
            found = [text[a:b] for a, b in spans]
            assert found == gold[number] * text.count(gold[number][0]) and found
            end = details[side["detail"][place] % 256][1]
            shown = want["doc"]["jrt"]["jrt_prefix_characters"]
            assert end == shown


def unpacked_piece(piece: str):
    return json.loads(zlib.decompress(base64.b64decode(piece)))


def test_places_of_answers_that_overlap_are_one():
    assert merged([(0, 3), (2, 5), (5, 6)]) == [(0, 5), (5, 6)]


def test_old_logs_say_what_they_do_not_hold(tmp_path):
    write_run(tmp_path / "run", [1, 0] * 6)  # documents, answers; no prompts
    found = browser(collect([tmp_path]).cells, "contains")
    assert found is not None
    prompts = [entry for piece in found.prompts for entry in unpacked_piece(piece)]
    assert {entry[2] for entry in prompts} == {0}, "documents stand for prompts, and say so"
    assert {entry[1] for piece in found.details for entry in unpacked_piece(piece)} == {None}


def test_the_page_of_many_questions_takes_those_on_which_runs_differ(pair):
    cells = collect([pair]).cells
    found = browser(cells, "contains", most=10)
    assert found is not None and (found.questions, found.of) == (10, 40)
    index = unpacked_piece(found.index)
    scores: dict[int, set[float]] = {}
    for side in index["sides"]:
        for question, score in zip(side["question"], side["score"], strict=True):
            scores.setdefault(question, set()).add(score)
    assert len(scores) == 10 and all(len(seen) == 2 for seen in scores.values())
    assert browser(cells, "contains", most=0) is None


def test_rows_and_columns_know_their_runs(page):
    names = json.loads(re.findall(r'id="facets">(.*?)</script>', page)[0])
    assert [name[1:3] for name in names] == [["swde", "read twice (JRT)"], ["swde", "read once"]] * 2
    assert {name[3] for name in names} == {"full", "dynamic"}
    tables = dict(re.findall(r'<figure class="table[^"]*" id="table-(\w+)">(.*?)</figure>', page, re.S))
    rows = re.findall(r'<tr data-cells="([\d ]+)">', tables["recall"])
    assert sorted(rows) == ["0 1", "2 3"]
    assert re.findall(r'<th scope="col" class="number" data-cells="([\d ]+)">', tables["recall"]) == ["1 3", "0 2"]
    # a paired comparison stays as long as one of its two runs does
    assert sorted(re.findall(r'<tr data-cells="([\d ]+)">', tables["differences"])) == ["0 2", "1 0", "1 3", "3 2"]
    assert "data-cells" not in tables["published"] and "not measured here" in tables["published"]
    assert "n = 40 questions; 20 documents; 1 dropped; 2 with the document cut" in tables["recall"]


def test_ids_are_unique_also_between_pictures(page):
    ids = [attributes["id"] for _, attributes in Elements(page).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = '<path id="m1"/><use xlink:href="#m1" clip-path="url(#m1)"/>'
    svg = f'<?xml version="1.0"?><svg xmlns="http://x"><style>*{{}}</style>{used}</svg>'
    one, other = inline(svg, "a b"), inline(svg, "c")
    assert one.count("picture-a_b-m1") == other.count("picture-c-m1") == 3
    assert "http" not in one and "<style" not in one


PAIRS = [(word, ground) for ground in ("paper", "ground", "prefix") for word in ("ink", "dim", "accent", "good", "bad")]
PAIRS += [("mark-ink", "mark"), ("ink", "here"), ("good", "here"), ("bad", "here")]


def palettes(page: str) -> dict[str, dict[str, str]]:
    css = re.findall(r"<style>(.*?)</style>", page, re.S)[0]
    blocks = re.findall(r"([^{}]+)\{([^{}]*--paper: #[^{}]*)\}", css)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", body)) for _, body in blocks]
    light, system_dark, dark, printed = found
    assert system_dark == dark, "the toggle's dark is the system's dark"
    return {"light": light, "dark": light | dark, "print": light | printed}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_words_stand_out_from_their_ground(page, theme):
    colours = palettes(page)[theme]
    weak = {pair: round(contrast(*(colours[name] for name in pair)), 2) for pair in PAIRS}
    assert not {pair: ratio for pair, ratio in weak.items() if ratio < 4.5}


def test_open_writes_the_page_and_shows_it(pair, tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main([str(pair), "--open"]) == 0
    assert opened == [(tmp_path / "report" / "report.html").resolve().as_uri()]
    assert (tmp_path / "report" / "report.json").exists()
