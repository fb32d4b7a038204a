"""The quickstart: a preference experiment small enough for a laptop, with a known true preference."""
