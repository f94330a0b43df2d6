"""The project's params.yaml and papers, read once for all tests that only look at them."""

from stages.runtime import params

LOADED = params.load()
