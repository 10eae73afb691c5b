"""The one report builder: sections of text, inline figures and tables become one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cryoscout import __version__
from cryoscout.core.new_files import write_whole


@dataclass(frozen=True)
class ReportTable:
    """A table; every row has as many cells as the header.

    strong_row : index of the row to stress, or None
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong_row: int | None = None


@dataclass(frozen=True)
class ReportSection:
    """One part of a page.

    svg : an inline `<svg>` element made by `figures.svg_text`; everything else is text and gets escaped
    """

    heading: str
    paragraphs: Sequence[str] = ()
    svg: Markup | None = None
    table: ReportTable | None = None
    note: str = ""


@dataclass(frozen=True)
class ReportPage:
    """A whole report.

    lead : the sentence a reader takes away     facts : (name, value) of data and settings, in order
    command : what makes this page again
    """

    title: str
    lead: str
    sections: Sequence[ReportSection]
    facts: Sequence[tuple[str, str]]
    command: str


def report_html(page: ReportPage) -> str:
    """The page as HTML that loads nothing from elsewhere; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("cryoscout.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page=page, version=__version__)


def write_report(page: ReportPage, path: Path) -> None:
    """Write the page as UTF-8."""
    write_whole(path, report_html(page))
