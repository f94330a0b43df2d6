"""Everything that touches files: parameters, artefacts, data, the command line."""
