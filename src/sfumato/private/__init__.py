"""Differentially private gradient descent: one plan, one pass, and a refusal wherever a guarantee would not hold."""
