"""The six stages of the reproduction: prepare, validate, train, evaluate, attack, report."""
