"""Values of the Python call beside those that the report reads from the pipeline's files."""

import numpy as np
import pytest

from stages.reporting.seeds import estimated


def assert_same_values(called, model):
    """A frame of `benchmark()` has the metrics of a model that was read, with the same values and intervals."""
    assert set(called.index) == set(model.values)
    for metric, (value, low, high) in called.iterrows():
        found = estimated([model], metric)
        assert value == pytest.approx(found.mean, rel=1e-9), metric
        assert (found.interval is None) == np.isnan(low), metric
        if found.interval:
            assert (low, high) == pytest.approx(found.interval, rel=1e-9), metric
