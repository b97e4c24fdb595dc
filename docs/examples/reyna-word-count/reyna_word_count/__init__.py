"""Counts the words of what is written in ReYNa Studio: a processor, its schema, and a view."""
