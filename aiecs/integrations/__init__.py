"""Frameworks that keep their state in ContextEngine, each behind an extra of its name."""
