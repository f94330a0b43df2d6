"""A prepared dataset checked: nothing trains on data that fails."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.data.splits import CAMERA, COLUMNS, TEST, data_files, read_prepared
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError
from stages.runtime.params import Params

ORDER = ("train", "test", "query", "gallery")
SHOWN = 5  # offending rows named in the error line
log = logging.getLogger(__name__)


def validate(block: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/validation.json, and Data Docs under logs/validation/<dataset>/.

    Raises:
        UserError: an expectation fails, or gallery images are in no ranking; an earlier pass is withdrawn, so nothing
            can train on this data.
    """
    images_path, manifest_path = data_files(dataset)
    pixels, manifest = read_prepared(dataset)
    log.info("read %d images and manifest rows of %s", len(manifest), dataset)
    table = facts(manifest, pixels, by=block["split"].get("by"))
    results = checked(table, block, dataset)
    failed = sorted((result for result in results if not result["success"]), key=lambda one: not one["image_ids"])
    output = artifacts.data_dir(dataset) / "validation.json"
    if failed:
        output.unlink(missing_ok=True)
        damaged = any(one["arguments"].get("column_B") == "stored_sha256" for one in failed)
        cure = f"mend the data, or write what was found under datasets.{dataset}.expected if that is right"
        if damaged:
            cure = f"run `{artifacts.made_by(images_path)}`"
        many = f"{len(failed)} expectations fail: " if len(failed) > 1 else ""
        told = "; ".join(describe(one, table) for one in failed)
        raise UserError(f"{manifest_path}: {many}{told}; {cure}")
    if told := in_no_ranking(table):
        output.unlink(missing_ok=True)
        raise UserError(f"{manifest_path}: {told}")
    report = {"success": True, "expectations": results, "inputs": checksums.hashes(images_path, manifest_path)}
    with artifacts.writing(output) as (draft,):
        checksums.dump(report, draft)
    return [output]


def checked(table: pd.DataFrame, block: Params, dataset: str) -> list[dict[str, Any]]:
    """Outcome of every expectation of a table of ``facts``; builds the Data Docs."""
    from stages.data import expectations  # after the files have been read, since it takes seconds

    docs = artifacts.LOGS / "validation" / dataset
    columns = [*COLUMNS, *(name for name in table if name == CAMERA)]
    suite = expectations.suite(columns, block, len(table))
    if told := not_expected(table, block["split"].get("by")):
        log.info(told)
    results = expectations.run(table, suite, dataset, docs)
    log.info("Data Docs: %s", docs / "index.html")
    return results


def not_expected(table: pd.DataFrame, by: str | None) -> str:
    """What is not expected of a split by lists, for the log; "" where classes are split."""
    if by == "lists":
        return "split by lists: both splits hold the same classes, so that they are disjoint is not expected"
    if by is None:
        return ""
    distractors = table.loc[table["split"].eq("gallery") & table["images_of_class"].isna(), "label"]
    same = " from another camera" if CAMERA in table else ""
    return (
        f"queries and gallery are two sets: each query needs an image of its class{same} in the gallery; "
        f"images_per_class is of training classes, and of queries and gallery together; {len(distractors)} images of "
        f"{distractors.nunique()} classes without a query are distractors"
    )


def facts(manifest: pd.DataFrame, pixels: NDArray[np.uint8], *, by: str | None) -> pd.DataFrame:
    """The manifest with what expectations need beside it, one row per image; ``by`` names the lists that split it.

    ``pixel_range`` is max - min of the stored image, ``stored_sha256`` the hash of its pixels, ``images_of_class`` the
    size of its class (within its list where lists split; queries and gallery count as one), ``splits_of_class`` and
    ``splits_of_image`` the number of splits in which its class and its very pixels occur.
    """
    table = manifest.copy()
    lists = table["split"].where(~table["split"].isin(TEST), "test")
    table["images_of_class"] = table.groupby("label" if by is None else ["label", lists])["label"].transform("size")
    table["pixel_range"] = [int(image.max()) - int(image.min()) for image in pixels]
    table["stored_sha256"] = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    table["splits_of_class"] = table.groupby("label")["split"].transform("nunique")
    table["splits_of_image"] = table.groupby("stored_sha256")["split"].transform("nunique")
    return with_queries(table) if by == "query_gallery" else table


def with_queries(table: pd.DataFrame) -> pd.DataFrame:
    """``facts`` with those of queries and gallery as two sets, missing where they are not asked for.

    ``relevant_in_gallery`` is how many images a query can find: gallery images of its class, from another camera where
    cameras are known. ``shared_classes`` is how many classes of the test images train, too. ``images_of_class`` is
    taken from distractors, gallery images of classes that have no query.
    """
    is_query, is_gallery = table["split"] == "query", table["split"] == "gallery"
    kinds = ["label", *(name for name in table if name == CAMERA)]
    of_class, of_kind = (table[is_gallery].value_counts(part) for part in (["label"], kinds))
    relevant = table.join(of_class.rename("all_of_class"), on=["label"])["all_of_class"].fillna(0)
    if CAMERA in table:
        relevant -= table.join(of_kind.rename("of_camera"), on=kinds)["of_camera"].fillna(0)
    table["relevant_in_gallery"] = relevant.where(is_query)
    tested = set(table.loc[is_query | is_gallery, "label"])
    table["shared_classes"] = len(tested & set(table.loc[table["split"] == "train", "label"]))
    queried = table["label"].isin(table.loc[is_query, "label"])
    table["images_of_class"] = table["images_of_class"].where(~is_gallery | queried)
    return table


def in_no_ranking(table: pd.DataFrame) -> str:
    """What is wrong if every query's ranking leaves the same gallery images out, which no candidate attack could move
    then; "" otherwise. No expectation, which would be part of every dataset's validation.json."""
    if CAMERA not in table or "query" not in set(table["split"]):
        return ""
    kinds = table[["label", CAMERA]].apply(tuple, axis=1)
    of_queries = set(kinds[table["split"] == "query"])
    alone = table[(table["split"] == "gallery") & kinds.isin(of_queries)]
    if len(of_queries) > 1 or alone.empty:
        return ""
    return (
        f"all queries are of one class and one camera, so no ranking has the {len(alone)} gallery images of both, such "
        f"as {alone['source_path'].iloc[0]}; add queries of another class or camera"
    )


def describe(failed: dict[str, Any], table: pd.DataFrame) -> str:
    """A failed expectation: what was found, and either the key of `expected` that says otherwise or the images.

    ``table`` is what was validated. Counts are put in words, since they are what a user's first guess gets wrong.
    """
    arguments, observed, split = failed["arguments"], failed["observed"], failed["split"]
    kind, column = failed["expectation"], arguments.get("column")
    where = f"{split} has" if split != "all" else "there are"
    if kind == "expect_table_row_count_to_equal":
        parts = [f"{'expected' * (name == 'train')}.{name}.images" for name in ORDER if name in set(table["split"])]
        key = f"expected.{split}.images" if split != "all" else f"the sum of {' and '.join(parts)}"
        return f"{where} {observed} images, not {arguments['value']} ({key})"
    if kind == "expect_column_unique_value_count_to_be_between":
        return f"{where} {observed} classes, not {arguments['min_value']} (expected.{split}.classes)"
    if column == "images_of_class":
        least, most = (int(bound) for bound in table[column].agg(["min", "max"]))
        lonely = least < 2 and "relevant_in_gallery" not in table
        cure = "a class needs two images at least" if lonely else f"write [{least}, {most}]"
        wanted = f"{int(arguments['min_value'])} to {int(arguments['max_value'])}"
        told = f"classes have {least} to {most} images, not {wanted} (expected.images_per_class: {cure})"
        return told + named(failed, table)
    if column == "splits_of_image":
        allowed = round((1 - arguments.get("mostly", 1)) * len(table))
        found = int((table[column] > 1).sum())
        key = "expected.duplicates_across_splits"
        where = "both splits" if table["split"].nunique() < 3 else "more than one split"
        return f"{found} images occur in {where}, not {allowed} ({key}){named(failed, table)}"
    if column == "relevant_in_gallery":
        camera = " from another camera" if CAMERA in table else ""
        many = len(failed["image_ids"])
        return f"{many} queries have no image of their class{camera} in the gallery{named(failed, table)}"
    if column == "shared_classes":
        found, allowed = int(table[column].iloc[0]), int(arguments["min_value"])
        return f"{found} classes of queries or gallery train, too, not {allowed} (expected.shared_classes)"
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
