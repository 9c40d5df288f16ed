"""Analyses: pure functions from a Trace to arrays and tables. They know nothing of models."""
