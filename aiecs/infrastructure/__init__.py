"""Drivers: where data is kept, and clients for it."""
