"""Task contexts."""
