"""The command line: `aiecs`, also installed as `context-engine`."""
