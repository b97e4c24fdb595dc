"""The JSON Schemas of this package, one file each."""
