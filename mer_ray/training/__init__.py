"""Splits, windows, the fit, and cross-validation: pure functions of arrays."""
