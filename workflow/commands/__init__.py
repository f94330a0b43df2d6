"""What a user asks of a study beside running it."""
