"""Tables of estimates for a paper in LaTeX."""

from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any

from stages.reporting.tables import NOTES, Row, best, column, notes, text

_ESCAPES = str.maketrans(
    {character: rf"\{character}" for character in "&%_#${}"}
    | {"`": "'", "\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "<": "$<$", ">": "$>$", "[": "{[}", "]": "{]}"}
)
_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def latex(block: Mapping[str, Any], place: str, rows: list[Row]) -> str:
    """A table block as a LaTeX table as wide as the page, for a document that loads booktabs and graphicx.

    The best value of a column is bold, by its direction, which an arrow shows; letters lead from columns to the notes.
    """
    columns, winners = block["columns"], {name: best(rows, name) for name in block["columns"]}
    of_columns = (note for note in notes(block) if note != block.get("note"))
    letters = {
        note: rf"\textsuperscript{{{letter}}}" for note, letter in zip(of_columns, ascii_lowercase, strict=False)
    }
    title = f"{block['title']}: {place}"
    lines = [
        r"% needs \usepackage{booktabs, graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{title.translate(_ESCAPES)}}}",
        r"\resizebox{\textwidth}{!}{%",
        r"\begin{tabular}{l" + "r" * len(columns) + "}",
        r"\toprule",
    ]
    headings = []
    for name in columns:
        found = column(name)
        heading = found.heading.translate(_ESCAPES).replace("-", "$-$") + _ARROWS[found.better]
        headings.append(heading + letters.get(NOTES.get(name, ""), ""))
    lines += [" & ".join(["", *headings]) + r" \\", r"\midrule"]
    for row in rows:
        cells = [row.title.translate(_ESCAPES)]
        for name in columns:
            value = text(name, row.cells[name], interval=False)
            value = rf"\textbf{{{value}}}" if row.defense in winners[name] else value
            _, bracket, rest = text(name, row.cells[name], interval=name in block["intervals"]).partition(" [")
            cells.append(value + (rf" {{\footnotesize [{rest}}}" if bracket else ""))
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [
        rf"\par\raggedright\scriptsize {letters.get(note, '')} {note.translate(_ESCAPES)}" for note in notes(block)
    ]
    return "\n".join([*lines, r"\end{table*}", ""])
