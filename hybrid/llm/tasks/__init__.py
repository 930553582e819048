"""What models are asked for: a label, drafts, a labelling policy."""
