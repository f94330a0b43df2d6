"""The side of the engines: rules, recipes, sync, papers and commands."""
