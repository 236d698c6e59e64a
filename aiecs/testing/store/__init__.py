"""The parts of `StoreContract`, by theme."""
