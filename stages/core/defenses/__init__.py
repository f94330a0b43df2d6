"""The registry of defenses: a block's ``method`` is the name here, of the function and of its file."""

from stages.core.defenses.act import act
from stages.core.defenses.base import Defense
from stages.core.defenses.ca_tride import ca_tride
from stages.core.defenses.est import est
from stages.core.defenses.hm import hm
from stages.core.defenses.tride import tride
from stages.core.defenses.vanilla import vanilla

DEFENSES: dict[str, Defense] = {
    "vanilla": vanilla,
    "est": est,
    "act": act,
    "hm": hm,
    "tride": tride,
    "ca_tride": ca_tride,
}
