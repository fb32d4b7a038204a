"""A model let out in stages, on statistics that may be looked at every day and on a person's recorded approval."""
