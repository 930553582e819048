"""The student: a small decoder trained on the teacher's reasons, written as a GGUF file that answers and explains."""
