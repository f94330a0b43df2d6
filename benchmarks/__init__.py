"""Scripts behind the measured values in docs/; each prints its table."""
