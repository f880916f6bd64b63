"""Evaluation of predictions: metrics, intervals, tables and plots."""
