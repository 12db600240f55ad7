"""Paragraphs and sentences: nothing lost, neighbours overlapping, and which of them matter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jrt_lmeval.errors import JRTError
from jrt_lmeval.prompts.passes import by_information, by_question
from jrt_lmeval.prompts.segments import SENTENCE_WORDS, segments
from jrt_lmeval.prompts.tokens import count_tokens

SUMMARY = (
    "SUBSTANTIAL EQUIVALENCE DETERMINATION A. 510(k) Number: K170149 B. Purpose for Submission: New device "
    "C. Measurand: Toxin gene (tcdB) D. Type of Test: Qualitative PCR. The assay by Dr. Smith et al. runs at 5.2 ml. "
    "It is for use in clinical laboratories. Rx only."
)
SHEET = "Title: Callum and the Paper Choir\nGenre: Thriller | War\nDirector: Zora Lindqvist\nRuntime: 82 min"
texts = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["word", "K170149", "5.2", "No!", "end.", "Dr.", "a,", "b;", "\n", "\n\n", "Ünï", "日本。", "\u2028", "  "]
        ),
        max_size=300,
    ).map(" ".join),
)


def cores(document: str, level: str, overlap: float = 0.2) -> list[str]:
    return [segment.core for segment in segments(document, level, overlap)]


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from(["paragraph", "sentence"]), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]))
def test_no_word_is_lost_and_overlaps_are_whole_words(document: str, level: str, overlap: float) -> None:
    found = segments(document, level, overlap)
    assert " ".join(segment.core for segment in found).split() == document.split()
    before: list[str] = []
    for segment in found:
        core = segment.core.split()
        shared = segment.text.split()[: -len(core)]
        assert shared == (before[-len(shared) :] if shared else [])
        assert len(shared) == round(overlap * len(before))
        assert segment.text == segment.text.strip() != ""
        assert segment.text in document
        assert segment.tokens == count_tokens(segment.text)
        before = core


@settings(max_examples=100, deadline=None)
@given(texts)
def test_sentences_lie_within_paragraphs_and_lines(document: str) -> None:
    sentences = cores(document, "sentence")
    assert all(len(sentence.splitlines()) == 1 for sentence in sentences)
    assert all(len(sentence.split()) <= SENTENCE_WORDS for sentence in sentences)
    for paragraph in cores(document, "paragraph"):
        words = paragraph.split()
        while words:
            sentence = sentences.pop(0).split()
            assert words[: len(sentence)] == sentence
            words = words[len(sentence) :]
    assert not sentences


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    assert cores(SUMMARY, "sentence")[-2:] == [
        "The assay by Dr. Smith et al. runs at 5.2 ml.",
        "It is for use in clinical laboratories. Rx only.",
    ]


def test_a_line_of_a_sheet_is_a_sentence_and_short_lines_make_a_paragraph() -> None:
    assert cores(SHEET, "sentence") == SHEET.splitlines()
    assert cores(SHEET, "paragraph") == [SHEET]
    long_sheet = "\n".join([SHEET] * 12)
    lengths = [len(core.split()) for core in cores(long_sheet, "paragraph")]
    assert all(50 <= length < 75 for length in lengths), lengths
    assert all(
        core.startswith(("Title:", "Genre:", "Director:", "Runtime:")) for core in cores(long_sheet, "paragraph")
    )


def test_long_pieces_are_cut_at_a_comma_or_between_words() -> None:
    menu = " ".join(["item"] * 90)
    assert [len(core.split()) for core in cores(menu, "sentence")] == [40, 25, 25]
    listed = " ".join(["one"] * 29 + ["two,"] + ["three"] * 20)
    assert [len(core.split()) for core in cores(listed, "sentence")] == [25, 25]
    listed = " ".join(["one"] * 19 + ["two,"] + ["three"] * 30)
    assert [len(core.split()) for core in cores(listed, "sentence")] == [20, 30]


def test_blank_lines_part_paragraphs_and_headings_stay_with_their_text() -> None:
    prose = " ".join(["Some words stand here."] * 20)
    document = f"Heading\n\n{prose}\n\n{prose}\n\n{prose}"
    assert cores(document, "paragraph") == [f"Heading\n\n{prose}", prose, prose]


def test_a_flattened_page_becomes_windows_of_sentences() -> None:
    page = " ".join(f"This is sentence number {i} of it." for i in range(40))
    lengths = [len(core.split()) for core in cores(page, "paragraph")]
    assert len(lengths) >= 4
    assert all(60 <= length <= 75 for length in lengths[:-1])


def test_the_document_level_is_the_document() -> None:
    assert [segment.text for segment in segments(" a b ", "document", 0.2)] == [" a b "]
    with pytest.raises(JRTError, match="Did you mean 'sentence'"):
        segments("a", "sentense")


def test_ranking_by_question() -> None:
    lines = SHEET.splitlines()
    assert by_question(lines, "director") == [2]
    assert by_question(lines, "Who are the directors?") == [2]
    assert by_question(lines, "mpaa_runtime") == [3]
    assert by_question(["a cat", "a dog", "a cat"], "cat") == [0, 2]
    assert by_question(lines, "budget") == []
    assert by_question(lines, "the and") == [0]
    assert by_question(lines, "?!") == []
    assert by_question([], "cat") == []
    assert by_question(["---", "..."], "cat") == []


def test_ranking_by_information_prefers_rare_names_and_numbers() -> None:
    lines = ["the the the the the the", "Zora Lindqvist shot it in 1979", "the the and the the and", "Zora"]
    assert by_information(lines, "\n".join(lines))[0] == 1
    assert by_information(["x y", "x y"], "x y x y") == [0, 1]
