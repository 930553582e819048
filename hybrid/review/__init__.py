"""Review: export the rows most worth re-checking to an annotation tool, and import the answers as trusted rows."""
