"""Tables compile as LaTeX, whatever their labels hold."""

import shutil
import subprocess

import pytest

from stages.core.stats import Estimate, Interval
from stages.reporting import latex
from stages.reporting.tables import Row
from stages.runtime import params

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs, graphicx}
\begin{document}
\input{table}
\end{document}
"""
LABELS = ["[first] in brackets", r"50 % & more_1 #2 $3 {4} \five ^6 ~7 <8>", "HM[S,-gamma/2]"]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (texlive-latex-recommended)")
@pytest.mark.parametrize("name", ["main", "reference_vs_exact"])
def test_a_table_compiles(tmp_path, name):
    block = params.load()["tables"][name]
    cell = Estimate(0.5, Interval(-0.25, 0.75), "queries")
    rows = [
        Row(label, mark, dict.fromkeys(block["columns"], found), {}, {})
        for label, mark, found in zip(LABELS, ("shrunk", "", ""), (cell, cell, None), strict=True)
    ]
    text = latex.latex(block | {"title": "One"}, "50 % & [two_3]", rows)
    (tmp_path / "table.tex").write_text(text)
    (tmp_path / "document.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Output written on document.pdf (1 page" in done.stdout.replace("\n", " ")
    assert "undefined" not in done.stdout
