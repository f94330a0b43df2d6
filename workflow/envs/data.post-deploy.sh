#!/usr/bin/env bash
# Snakemake runs this inside the freshly made environment, from the project's folder. Its packages are pinned beside it,
# so the project comes without dependencies; a path under `pip:` would break, because Snakemake copies the yaml.
set -euo pipefail
python -m pip install --quiet --no-deps -e .
