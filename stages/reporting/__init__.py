"""Tables, verdicts, figures and the page from results."""
