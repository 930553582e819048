"""Language models that run in this process, from GGUF files, through llama.cpp."""
