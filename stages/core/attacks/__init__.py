"""The registry of attacks: a block's ``attack`` is the name here, its ``family`` the file it lives in."""

from stages.core.attacks import candidate, embedding, misrank, query
from stages.core.attacks.base import Attack

ATTACKS: dict[str, Attack] = {
    "ca_plus": candidate.ca_plus,
    "ca_minus": candidate.ca_minus,
    "qa_plus": query.qa_plus,
    "qa_minus": query.qa_minus,
    "tma": embedding.tma,
    "es": embedding.es,
    "es_exact": embedding.es_exact,
    "ltm": misrank.ltm,
    "ltm_exact": misrank.ltm_exact,
    "gtm": misrank.gtm,
    "gtm_exact": misrank.gtm_exact,
    "gtt": query.gtt,
    "spqa_plus": query.spqa_plus,
    "spqa_minus": query.spqa_minus,
    "order": query.order,
}
