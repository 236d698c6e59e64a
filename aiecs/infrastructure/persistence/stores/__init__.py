"""The stores of this distribution, each loaded when it is opened."""
