"""Threads of versioned state: checkpoints whose values are kept once, whatever refers to them."""
