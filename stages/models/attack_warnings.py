"""What the log of an attack warns of. Apart from what computes results, so that a new warning attacks nothing again."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.core import evaluation_checks


def of_block(name: str, block: Mapping[str, Any], table: pd.DataFrame) -> list[str]:
    """Signs that an attack block, or a member of its suite, is weaker than it looks; ``table`` has a row per query."""
    columns = {str(column): table[column].to_numpy() for column in table}
    tried = evaluation_checks.runs(name, block, columns)
    return evaluation_checks.of_runs(name, block, columns) + evaluation_checks.compared(name, tried)
