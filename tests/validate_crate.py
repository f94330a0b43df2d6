"""Validate a crate with roc-validator and without a network.

    python tests/validate_crate.py FOLDER PROFILE       prints what is wrong; exit status 1 where something is

The JSON-LD context is the one that rocrate ships, of version 1.3, with the addresses that version 1.1 had for the terms
of workflows.
"""

import json
import sys
from pathlib import Path

import rocrate
from rdflib.plugins.shared.jsonld.context import Context
from requests import Response
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils.http import HttpRequester

ADDRESS = "https://w3id.org/ro/crate/1.1/context"
SHIPPED = (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text()
for term in ("input", "output"):
    SHIPPED = SHIPPED.replace(f"bioschemas.org/terms/{term}", f"bioschemas.org/ComputationalWorkflow#{term}")
SHIPPED = SHIPPED.replace("bioschemas.org/terms/", "bioschemas.org/")
fetch_other = Context._fetch_context


def fetch(self, source, *arguments, **options):
    """The shipped context for its address; others as before."""
    return json.loads(SHIPPED) if str(source) == ADDRESS else fetch_other(self, source, *arguments, **options)


def get(self, address, **options):
    """The shipped context as an answer of the network; nothing else is there."""
    answer = Response()
    answer.status_code = 200 if address == ADDRESS else 404
    answer.headers["Content-Type"] = "application/ld+json"
    answer._content = SHIPPED.encode() if address == ADDRESS else b""
    return answer


Context._fetch_context, HttpRequester.get = fetch, get
settings = ValidationSettings(
    rocrate_uri=sys.argv[1], profile_identifier=sys.argv[2], requirement_severity=Severity.REQUIRED
)
result = services.validate(settings)
for issue in result.get_issues():
    print(f"{issue.check.identifier}: {issue.message}")
print(f"{len(result.executed_checks)} checks")
sys.exit(result.has_issues())
