"""What a prepared dataset must satisfy, checked by great-expectations. The package takes seconds to import."""

import json
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from stages.data.selection import LISTS


def suite(columns: list[str], block: dict[str, Any], rows: int) -> list[Any]:
    """What a dataset of ``rows`` images must satisfy; ``block`` is its block in params.yaml.

    Where the publisher's lists split the images, both splits hold every class, so that classes are not disjoint. Where
    queries and gallery are two sets, they share classes, and training has others.
    """
    expected, by = block["expected"], block["split"].get("by")
    splits = {name: expected[name] for name in LISTS[by or "lists"]}
    separate, disjoint = by == "query_gallery", by is None
    counts = [split["classes"] for name, split in splits.items() if name != "query"]
    classes = max(counts) if by == "lists" else sum(counts)
    fewest, most = expected["images_per_class"]
    unique_share = 1 - expected["duplicates_across_splits"] / rows
    expectations = [
        gxe.ExpectTableColumnsToMatchSet(column_set=columns, exact_match=False),
        gxe.ExpectColumnValuesToBeUnique(column="image_id"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(splits)),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=classes - 1),
        gxe.ExpectColumnValuesToBeBetween(column="images_of_class", min_value=fewest, max_value=most),
        *([gxe.ExpectColumnValuesToBeBetween(column="splits_of_class", max_value=1)] if disjoint else []),
        *(of_queries(expected.get("shared_classes", 0)) if separate else []),
        gxe.ExpectColumnValuesToBeBetween(column="splits_of_image", max_value=1, mostly=unique_share),
        gxe.ExpectColumnValuesToBeBetween(column="pixel_range", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=1),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="sha256", column_B="stored_sha256"),
        gxe.ExpectTableRowCountToEqual(value=sum(split["images"] for split in splits.values())),
    ]
    expectations += [gxe.ExpectColumnValuesToNotBeNull(column=column) for column in columns]
    for split, size in splits.items():
        here: Any = {"row_condition": Column("split") == split, "meta": {"split": split}}
        images, count = size["images"], size["classes"]
        expectations += [
            gxe.ExpectTableRowCountToEqual(value=images, **here),
            gxe.ExpectColumnUniqueValueCountToBeBetween(column="label", min_value=count, max_value=count, **here),
        ]
    return expectations


def of_queries(shared: int) -> list[Any]:
    """What queries and gallery as two sets must satisfy; ``shared`` is how many of their classes train, too."""
    return [
        gxe.ExpectColumnValuesToBeBetween(column="relevant_in_gallery", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="shared_classes", min_value=shared, max_value=shared),
    ]


def run(table: pd.DataFrame, suite: list[Any], name: str, docs: Path) -> list[dict[str, Any]]:
    """Validate ``table``, build Data Docs under ``docs``, and return one plain record per expectation."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    site: Any = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
    }
    context.add_data_docs_site(site_name="local", site_config=site)
    asset = context.data_sources.add_pandas(name).add_dataframe_asset("images")
    batch = asset.add_batch_definition_whole_dataframe("all")
    expected = context.suites.add(gx.ExpectationSuite(name=name, expectations=suite))
    definition = context.validation_definitions.add(gx.ValidationDefinition(data=batch, suite=expected, name=name))
    checked = gx.Checkpoint(
        name=name,
        validation_definitions=[definition],
        actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["local"])],
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["image_id"]},
    )
    (result,) = context.checkpoints.add(checked).run(batch_parameters={"dataframe": table}).run_results.values()
    return sorted((record(one) for one in result.results), key=lambda one: json.dumps(one, sort_keys=True))


def record(result: Any) -> dict[str, Any]:
    """One expectation's outcome without times or ids: name, arguments, success, observed value, offending images."""
    config, outcome = result.expectation_config, result.result
    observed = outcome.get("observed_value")
    return {
        "expectation": config.type,
        "arguments": {key: value for key, value in config.kwargs.items() if key not in {"batch_id", "row_condition"}},
        "split": (config.meta or {}).get("split", "all"),
        "success": bool(result.success),
        "observed": observed if isinstance(observed, int | float) else None,
        "image_ids": sorted({int(entry["image_id"]) for entry in outcome.get("unexpected_index_list") or []}),
    }
