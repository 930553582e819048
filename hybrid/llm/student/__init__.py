"""The student: a small decoder fine-tuned on a teacher's reasons, as it answers. Its prompts, tokens and label scores."""
