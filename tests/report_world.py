"""A report's models, made up."""

import numpy as np
import pandas as pd
from project_params import LOADED

from stages.core.scores import SUB_SCORES
from stages.reporting.results import Model

LABELS = {name: name for name in LOADED["defenses"]}
HISTORY = pd.DataFrame(
    {
        "epoch": range(4),
        "loss": 0.1,
        "loss_adversarial": 0.2,
        "collapseness": -0.5,
        "hardness": -1.0,
        "recall_at_1": 90.0,
    }
)


def model(ers, seed=0, spread=1.0, noise=0.5, **values):
    """A model with an ERS, its draws around it, and sub-scores."""
    draw = np.random.default_rng(7)  # the same for every model, as resampled queries are
    scores = dict.fromkeys(SUB_SCORES, 30.0) | {"tma": 0.9, "es_d": 1.0, "ers": ers, "recall_at_1": 90.0} | values
    draws = {name: value + noise * draw.standard_normal(2000) for name, value in scores.items()}
    return Model(scores | {"spread": spread, "collapsed": 0.0}, draws, {"es": {}}, HISTORY, 50, 50, seed)
