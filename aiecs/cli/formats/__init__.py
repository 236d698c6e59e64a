"""Files that can be imported: pure parsers, from a file to records."""
