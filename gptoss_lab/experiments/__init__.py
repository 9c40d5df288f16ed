"""Experiments: they run a model many times, with a budget and a progress bar, and give back tables.

comparison   compare: one run beside an edited one
sweeping     sweep: the effect of every expert or head, one at a time
"""
