"""The page: whole by itself, safe with any text, readable without its curves."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.unit.captures import MACHINE, System, capture
from worker.maintenance.baseline.figures import Figure
from worker.maintenance.baseline.report import POINTS_MAX, curve, page

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"
VOID = {"meta", "circle", "polyline", "br"}


class Elements(HTMLParser):
    """The tags of a page, each closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag


def test_the_page_needs_nothing_else() -> None:
    elements = Elements(page(System(1).captures(9)))
    assert not {"script", "link", "img", "iframe", "object"} & set(elements.tags)
    assert not [each for each in elements.attributes if each[1] in ("src", "href", "style") or each[1].startswith("on")]
    assert not re.search("https?:|url\\(|@import", page(System(1).captures(9)))
    assert ("html", "lang", "en") in elements.attributes


def test_no_text_of_a_capture_becomes_markup() -> None:
    figures = {EVIL: Figure(1.0, 0.0, 1), "redis.ping_ms": Figure.none(EVIL), f"engine.{EVIL}.rpc_ms": Figure(2.0, 0.1, 7)}
    captures = [capture(n, figures, source=EVIL, machine={EVIL: EVIL}, versions={EVIL: EVIL}) for n in (2, 1)]
    text = page(captures)
    assert not {"script", "img"} & set(Elements(text).tags)
    assert "&lt;script&gt;" in text


def test_each_curve_says_in_words_what_it_shows() -> None:
    captures = System(2).captures(5)
    elements = Elements(page(captures))
    words = [value for tag, name, value in elements.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(words) == len(captures[0].figures)
    assert all(re.fullmatch(r".+: 5 values from .+ to .+, the last .+", each or "") for each in words)
    assert elements.tags.count("caption") >= 5
    assert ("th", "scope", "row") in elements.attributes


def test_a_regression_stands_at_the_top_and_light_and_dark_are_both_looked_after() -> None:
    system = System(3, between=0.01, within=0.02)
    before = system.captures(7)
    text = page([system.capture({"store.read_ms": 2.0}), *before])
    assert text.index("Worse than the median of the 7 captures before") < text.index("<table>")
    assert "<li>store.read_ms: " in text
    assert "prefers-color-scheme: dark" in text


def test_without_captures_the_page_says_how_to_make_one() -> None:
    assert "haul baseline capture" in page([])
    Elements(page([]))


def test_other_machines_are_not_in_the_curves() -> None:
    captures = System(4).captures(3)
    other = capture(0, captures[0].figures, machine={**MACHINE, "cores": 64.0})
    text = page([*captures, other])
    assert "1 of other machines are not shown" in text
    assert ": 3 values" in text


def test_a_year_of_captures_is_a_small_page_that_ends_with_the_newest() -> None:
    values = [(float(at), float(at)) for at in range(800)]
    drawn = curve("figure", values, "ms")
    assert drawn.count(",") <= POINTS_MAX + 3
    assert "800 values" in drawn
    assert "the last 799" in drawn
    assert len(page(System(5).captures(300))) < 400_000
