"""Scripts behind the figures in docs/; each prints its table."""
