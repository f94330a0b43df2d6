"""The two engines' side: rules, recipes, hand-over, papers and commands."""
