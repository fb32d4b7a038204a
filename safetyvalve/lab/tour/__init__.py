"""The tour: the whole road from data to a decision, run for real with the commands that a user would type."""
