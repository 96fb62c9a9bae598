"""Classifiers of tables: what ``normcore train`` and ``normcore predict`` do, as functions that print nothing."""
