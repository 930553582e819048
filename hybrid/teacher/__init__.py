"""The teacher: which rows it votes on, with which prompt, its labelling policy, and the drafts that it writes."""
