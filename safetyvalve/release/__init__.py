"""From numbers to a decision: key figures, return on investment, staged release."""
