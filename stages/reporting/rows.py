"""Tables: a block's rows for one dataset, ours beside what was published."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.reporting.published import has_collapsed, lookup
from stages.reporting.results import Model, estimated, mark
from stages.reporting.tables import Row, column
from stages.reporting.verdicts import COLLAPSED, verdict


def table_rows(
    block: Mapping[str, Any], dataset: str, models: Mapping[str, list[Model]], published: pd.DataFrame
) -> list[Row]:
    """The rows of one table block for one dataset."""
    where = block.get("published")
    if where:  # all lookups are in these few rows
        published = published[published["dataset"] == where["datasets"].get(dataset)]
    rows = []
    for defense, row in block["rows"].items():
        found = models.get(defense, [])
        cells, printed, verdicts = {}, {}, {}
        for name in block["columns"]:
            cells[name] = estimated(found, name)
            printed[name] = lookup(published, where, dataset, row.get("published"), name) if where else None
            slack = block.get("tolerance", 0) / 100 * column(name).span
            verdicts[name] = verdict(printed[name], cells[name], slack)
            if where and printed[name] is None and has_collapsed(published, where, dataset, row.get("published")):
                verdicts[name] = COLLAPSED
        rows.append(Row(row["label"], mark(found) if found else "", cells, printed, verdicts, defense))
    return rows
