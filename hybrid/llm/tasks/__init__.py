"""The tasks that language models are given: a label, drafts of new texts, a labelling policy."""
