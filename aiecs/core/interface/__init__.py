"""Interfaces: what applications see, and what stores and archives implement."""
