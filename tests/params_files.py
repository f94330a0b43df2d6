"""params.yaml and papers' files with changes, as the parameters are read from them."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from stages.runtime import params
from stages.runtime.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
OWN = yaml.safe_load((ROOT / "params.yaml").read_text())


def load(tmp_path, change):
    """The parameters with a change to params.yaml as it is written."""
    own = deepcopy(OWN)
    change(own)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(own, sort_keys=False))
    return params.load(path)


def refused(tmp_path, change):
    """The one line that a change to params.yaml leads to."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, change)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_paper(tmp_path, monkeypatch):
    """The folder of papers, a copy with one more that is empty."""
    papers = tmp_path / "papers"
    for name in OWN["papers"]:
        (papers / name).mkdir(parents=True)
        for part in ("blocks.yaml", "tables.yaml"):
            (papers / name / part).write_text((params.PAPERS / name / part).read_text())
    (papers / "mine").mkdir()
    monkeypatch.setattr(params, "PAPERS", papers)
    return papers
