"""What the documentation site needs beyond Markdown pages: file names of code blocks, and pages of the root."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that hosts of repositories expect in the root; their links into docs/ become relative."""
    from mkdocs.structure.files import File

    for name, source in FROM_ROOT.items():
        text = (ROOT / source).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Show ```python FILE as the file's name above the block: Markdown itself knows no name."""
    return re.sub(r"^```(\w+) (\S+)$", r"`\2`:\n\n```\1", markdown, flags=re.MULTILINE)
