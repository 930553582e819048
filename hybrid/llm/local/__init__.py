"""Language models in this process, from GGUF files, through llama.cpp."""
