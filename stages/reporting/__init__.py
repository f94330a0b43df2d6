"""From results to tables, verdicts, figures and the page."""
