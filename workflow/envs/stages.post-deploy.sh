#!/usr/bin/env bash
# Snakemake runs this inside the freshly made conda environment, from the project's folder.
set -euo pipefail
python -m pip install --quiet -c constraints.txt -e .
