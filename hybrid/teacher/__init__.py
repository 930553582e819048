"""What is asked of the teacher: which rows, in what order, by which prompt, and the drafts that it writes."""
