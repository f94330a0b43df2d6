"""Stage 2: great-expectations checks the manifest and the images; nothing trains on data that fails."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.io import artifacts, cli, seals
from stages.io.errors import UserError
from stages.io.params import Params
from stages.io.params import dataset as dataset_block

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

SHOWN = 5  # offending rows named in the error line


def facts(manifest: pd.DataFrame, pixels: NDArray[np.uint8]) -> pd.DataFrame:
    """The manifest with what expectations need beside it, one row per image.

    ``pixel_range`` is max - min of the stored image, ``stored_sha256`` the hash of its pixels, ``images_of_class`` the
    size of its class, ``splits_of_class`` and ``splits_of_image`` the number of splits in which its class and its very
    pixels occur.
    """
    table = manifest.copy()
    table["images_of_class"] = table.groupby("label")["label"].transform("size")
    table["pixel_range"] = [int(image.max()) - int(image.min()) for image in pixels]
    table["stored_sha256"] = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    table["splits_of_class"] = table.groupby("label")["split"].transform("nunique")
    table["splits_of_image"] = table.groupby("stored_sha256")["split"].transform("nunique")
    return table


def expectations(columns: list[str], expected: dict[str, Any], rows: int) -> list[Any]:
    """What a dataset of ``rows`` images must satisfy; ``expected`` is its block in params.yaml."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    splits = {name: expected[name] for name in ("train", "test")}
    classes = sum(split["classes"] for split in splits.values())
    fewest, most = expected["images_per_class"]
    unique_share = 1 - expected["duplicates_across_splits"] / rows
    suite = [
        gxe.ExpectTableColumnsToMatchSet(column_set=columns, exact_match=False),
        gxe.ExpectColumnValuesToBeUnique(column="image_id"),
        gxe.ExpectColumnValuesToBeInSet(column="split", value_set=list(splits)),
        gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=classes - 1),
        gxe.ExpectColumnValuesToBeBetween(column="images_of_class", min_value=fewest, max_value=most),
        gxe.ExpectColumnValuesToBeBetween(column="splits_of_class", max_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="splits_of_image", max_value=1, mostly=unique_share),
        gxe.ExpectColumnValuesToBeBetween(column="pixel_range", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=1),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=1),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="sha256", column_B="stored_sha256"),
        gxe.ExpectTableRowCountToEqual(value=sum(split["images"] for split in splits.values())),
    ]
    suite += [gxe.ExpectColumnValuesToNotBeNull(column=column) for column in columns]
    for split, size in splits.items():
        here: Any = {"row_condition": Column("split") == split, "meta": {"split": split}}
        images, count = size["images"], size["classes"]
        suite += [
            gxe.ExpectTableRowCountToEqual(value=images, **here),
            gxe.ExpectColumnUniqueValueCountToBeBetween(column="label", min_value=count, max_value=count, **here),
        ]
    return suite


def run_suite(table: pd.DataFrame, suite: list[Any], name: str, docs: Path) -> list[dict[str, Any]]:
    """Validate ``table``, build Data Docs under ``docs``, and return one plain record per expectation."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

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


def describe(failed: dict[str, Any], table: pd.DataFrame) -> str:
    """A failed expectation: what was found, and either the key of `expected` that says otherwise or the images.

    ``table`` is what was validated. Counts are put in words, since they are what a user's first guess gets wrong.
    """
    arguments, observed, split = failed["arguments"], failed["observed"], failed["split"]
    kind, column = failed["expectation"], arguments.get("column")
    where = f"{split} has" if split != "all" else "there are"
    if kind == "expect_table_row_count_to_equal":
        key = f"expected.{split}.images" if split != "all" else "the sum of expected.train.images and .test.images"
        return f"{where} {observed} images, not {arguments['value']} ({key})"
    if kind == "expect_column_unique_value_count_to_be_between":
        return f"{where} {observed} classes, not {arguments['min_value']} (expected.{split}.classes)"
    if column == "images_of_class":
        least, most = (int(bound) for bound in table[column].agg(["min", "max"]))
        cure = f"write [{least}, {most}]" if least > 1 else "a class needs two images at least"
        wanted = f"{int(arguments['min_value'])} to {int(arguments['max_value'])}"
        told = f"classes have {least} to {most} images, not {wanted} (expected.images_per_class: {cure})"
        return told + named(failed, table)
    if column == "splits_of_image":
        allowed = round((1 - arguments.get("mostly", 1)) * len(table))
        found = int((table[column] > 1).sum())
        key = "expected.duplicates_across_splits"
        return f"{found} images occur in both splits, not {allowed} ({key}){named(failed, table)}"
    settings = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    seen = f", found {observed}" if observed is not None else ""
    return f"{kind}({settings}) fails on split {split}{seen}{named(failed, table)}"


def named(failed: dict[str, Any], table: pd.DataFrame) -> str:
    """The first images that fail an expectation, by id, and where one of them comes from; "" where none is known."""
    rows = failed["image_ids"]
    if not rows:
        return ""
    source = table.loc[table["image_id"] == rows[0], "source_path"].iloc[0]
    ids = f"{', '.join(map(str, rows[:SHOWN]))}{' ...' if len(rows) > SHOWN else ''}"
    return f": image ids {ids}, such as {source}"


def validate(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/validation.json, and Data Docs under logs/validation/<dataset>/.

    Raises:
        UserError: an expectation fails; an earlier pass is withdrawn, so nothing can train on this data.
    """
    from stages.io.data import COLUMNS, data_files, read_manifest, read_pixels, remedy

    block = dataset_block(params, dataset)
    images_path, manifest_path = data_files(dataset)
    pixels, manifest = read_pixels(images_path), read_manifest(manifest_path)
    if len(pixels) != len(manifest):
        raise UserError(f"{images_path}: {len(pixels)} images but {len(manifest)} manifest rows; {remedy(images_path)}")
    cli.log.info("read %d images and manifest rows of %s", len(manifest), dataset)
    docs = artifacts.LOGS / "validation" / dataset
    suite = expectations(list(COLUMNS), block["expected"], len(manifest))
    table = facts(manifest, pixels)
    results = run_suite(table, suite, dataset, docs)
    cli.log.info("Data Docs: %s", docs / "index.html")
    failed = sorted((result for result in results if not result["success"]), key=lambda one: not one["image_ids"])
    output = artifacts.data_dir(dataset) / "validation.json"
    if failed:
        output.unlink(missing_ok=True)
        damaged = any(one["arguments"].get("column_B") == "stored_sha256" for one in failed)
        counts = f"mend the data, or write what was found under datasets.{dataset}.expected if that is right"
        many = f"{len(failed)} expectations fail: " if len(failed) > 1 else ""
        told = "; ".join(describe(one, table) for one in failed)
        raise UserError(f"{manifest_path}: {many}{told}; {remedy(images_path) if damaged else counts}")
    report = {"success": True, "expectations": results, "inputs": artifacts.hashes(images_path, manifest_path)}
    with artifacts.writing(output) as (draft,):
        seals.dump(report, draft)
    return [output]


def main() -> None:
    """Command line: ``python -m stages.validate <dataset>``."""
    cli.main(validate, "validate", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
